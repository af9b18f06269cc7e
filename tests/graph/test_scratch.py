"""What ways of keeping need while they work, against the allocations of ``ops``: never less, and not much more."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.keeping import modes_of
from kilotune.graph.node import Conv2d, Layer
from kilotune.graph.scratch import Scratch, scratch
from kilotune.graph.way import Modes
from kilotune.graph.ways import parse_way
from kilotune.ops.ways import WAYS
from kilotune.update_plan import ChannelSet
from tests.oracles import places
from tests.oracles.allocations import peak_bytes
from tests.oracles.modules import captured

TEXTS = ("int8", "int4", "prune:0.1", "prune:1", "pattern:1", "filter:2", "svd:0.8", "hosvd:0.8", "asi:2", "lance:2")
# Padding to whole words, scalars, and lists of channels that are not worth a letter in a formula.
SMALL = 1024
# Ranks are bounded by sizes and eigenvalue problems by their largest mode, so that a bound is not the measurement itself.
NEAR = 3


def layer_of(where, dy):
    """The record of the layer that a place belongs to."""
    op, sizes = where.op, where.compressed.modes.sizes
    is_conv = isinstance(op, Conv2d)
    return Layer(
        "layer", "layer", "conv2d" if is_conv else "linear", where.compressed.modes.channels, op.weight_shape[0],
        op.weight_shape[2:] if is_conv else (), op.stride if is_conv else (1, 1), op.groups if is_conv else 1,
        sizes[2:] if is_conv else (prod(sizes[1:-1]), 1),
        tuple(dy.shape[2:]) if is_conv else (prod(sizes[1:-1]), 1), False,
    )  # fmt: skip


def measured(where, x, dy):
    """Bytes beside what is kept and the gradients: (forward, backward), and those that are allowed."""
    compressed, way = where.compressed, where.compressed.way
    batch, row = where.samples(x), WAYS[way.name]
    known = [x, dy, where.slice.index]
    row.keep(x, where)  # factors are there from the second time on
    forward = peak_bytes(lambda: row.keep(x, where), [*known, *where.memory.factors.values()])
    parts, stays = row.keep(x, where)
    kept = sum(part.nbytes for part in parts)
    grad = row.weight_grad(where, parts + stays, dy)
    cut = where.cut(x)
    exact = peak_bytes(lambda: where.live_grad(cut, dy), [*known, cut])
    backward = peak_bytes(lambda: row.weight_grad(where, parts + stays, dy), [*known, *parts, *stays])
    if row.input_grad is not None:
        weight = torch.zeros(where.op.weight_shape)
        spread = peak_bytes(lambda: row.input_grad(where, weight, dy, tuple(x.shape)), [*known, weight])
        backward = max(backward - max(exact, grad.nbytes), spread - x.nbytes)
    else:
        backward -= max(exact, grad.nbytes)
    needs = scratch(way, layer_of(where, dy), compressed.modes, batch, compressed.channels)
    allowed = [4 * (charge.once + compressed.channels * charge.unit) for charge in needs]
    return (forward - kept, backward), allowed


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=40)
@given(data=st.data())
def test_convolutions(text, data):
    found, allowed = measured(*data.draw(places.convolutions(text, torch.float32)))
    assert found[0] <= allowed[0] + SMALL
    assert found[1] <= allowed[1] + SMALL


@pytest.mark.parametrize("text", [text for text in TEXTS if text.partition(":")[0] not in ("pattern", "filter")])
@settings(max_examples=40)
@given(data=st.data())
def test_linear_layers(text, data):
    found, allowed = measured(*data.draw(places.linears(text, torch.float32)))
    assert found[0] <= allowed[0] + SMALL
    assert found[1] <= allowed[1] + SMALL


@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("text", TEXTS)
def test_the_bound_is_near(text, n):
    """Of two memory layouts the one that needs more: some products copy in one of them only."""
    op = Conv2d("w", (24, 48, 1, 1), None, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn((n, c, 16, 16), generator=generator) for c in (48, 24))
    most = []
    for layout in (torch.contiguous_format, torch.channels_last):
        modes = Modes((1, 48, 16, 16), 0, 1, (16, 16))
        where = places.place(op, modes, text, ChannelSet("layer", "in", tuple(range(0, 48, 2))))
        found, allowed = measured(where, *(tensor.contiguous(memory_format=layout) for tensor in (x, dy)))
        most.append(found)
    for seen, bound in zip(map(max, *most), allowed, strict=True):
        assert seen - SMALL <= bound <= NEAR * seen + 8 * SMALL


def test_exactly_kept_inputs_need_nothing():
    graph = captured("conv norm")
    layer = graph.layer["part.0"]
    assert scratch(None, layer, modes_of(graph, layer), 1, 2) == Scratch()


@settings(max_examples=40)
@given(st.sampled_from(TEXTS), st.integers(1, 8), st.integers(1, 64), st.data())
def test_fewer_channels_need_no_more(text, batch, most, data):
    """The charges of many channels hold for a few of them."""
    graph = captured("conv norm")
    layer = graph.layer["part.0"]
    fewer = data.draw(st.integers(1, most))
    own, all_of_them = (scratch(parse_way(text), layer, modes_of(graph, layer), batch, n) for n in (fewer, most))
    for one, many in zip(own, all_of_them, strict=True):
        assert one.once + fewer * one.unit <= many.once + fewer * many.unit
