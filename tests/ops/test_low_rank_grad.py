"""The gradient from a core and factors is that of the tensor they stand for, whatever the layer."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.node import Conv2d
from kilotune.graph.way import Modes
from kilotune.ops.low_rank import reconstruct
from kilotune.ops.slices import Slice
from kilotune.ops.ways import WAYS
from kilotune.update_plan import ChannelSet
from tests.oracles.dense import FLOAT64_TOLERANCE, relative_error
from tests.oracles.places import convolutions, linears, place

TEXTS = ["svd:0.7:0.9", "hosvd:0.8:1", "hosvd:0.9:0.2", "hosvd:1:1", "asi:2", "asi:1x3x2x2", "lance:2", "lance:9x2x9x1"]


def check(where, x, dy):
    saved, resident = WAYS[where.way.name].keep(x, where)
    parts = [*saved, *resident]
    found = WAYS[where.way.name].weight_grad(where, parts, dy)
    core, factors = parts[0], parts[1:]
    if where.way.name == "svd":
        factors = [factors[0] if mode == where.batch_axis else x.new_empty(0) for mode in range(x.dim())]
    restored = reconstruct(core, factors)
    assert restored.shape == where.cut(x).shape
    expected = where.live_grad(restored, dy)
    assert found.shape == expected.shape
    scale = where.live_grad(restored.abs(), dy.abs()).abs().max().clamp(min=1e-30)
    assert float((found - expected).abs().max() / scale) < FLOAT64_TOLERANCE
    stored = sum(part.untyped_storage().nbytes() for part in saved) // x.element_size()
    assert stored <= where.way.kept(where.compressed.modes, len(x), where.compressed.channels)
    return restored


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=40)
@given(data=st.data())
def test_convolutions(text, data):
    check(*data.draw(convolutions(text)))


@pytest.mark.parametrize("text", [text for text in TEXTS if text.count("x") == 0])
@given(data=st.data())
def test_linear_layers(text, data):
    check(*data.draw(linears(text)))


@given(data=st.data())
def test_all_of_the_energy_is_the_exact_gradient(data):
    where, x, dy = data.draw(st.one_of(convolutions("hosvd:1:1"), linears("hosvd:1:1")))
    if where.way.kept(where.compressed.modes, len(x), where.compressed.channels) >= where.cut(x).numel():
        restored = check(where, x, dy)
        if not where.memory.capped:
            assert float((restored - where.cut(x)).abs().max()) < 1e-6


@pytest.mark.parametrize("text", ["hosvd:0.8:1", "asi:2", "filter:2"])
def test_patterned_kernels_have_their_taps_only(text):
    op = Conv2d("w", (6, 1, 3, 3), None, (1, 1), (1,) * 4, (1, 1), 6, pattern="p")
    chosen = ChannelSet("layer", "in", (0, 2, 5))
    tensors = {"w": torch.zeros(op.weight_shape), "p": torch.arange(6)[:, None].to(torch.uint8)}
    whole = place(replace(op, pattern=None), Modes((1, 6, 5, 5), 0, 1, (5, 5)), text, chosen)
    patterned = replace(whole, op=op, slice=Slice.of(op, chosen, tensors))
    x, dy = (torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1))
    row = WAYS[whole.way.name]
    parts = [part for some in row.keep(x, whole) for part in some]
    found, full = row.weight_grad(patterned, parts, dy), row.weight_grad(whole, parts, dy)
    assert found.shape == (3, 1, 4)
    assert relative_error(found, patterned.slice.pick(full)) < FLOAT64_TOLERANCE
