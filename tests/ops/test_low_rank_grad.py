"""The gradient from a core and factors is that of the tensor they stand for, whatever the layer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.ops.low_rank import reconstruct
from kilotune.ops.ways import WAYS
from tests.oracles.dense import FLOAT64_TOLERANCE
from tests.oracles.places import convolutions, linears

TEXTS = ["svd:0.7:0.9", "hosvd:0.8:1", "hosvd:0.9:0.2", "hosvd:1:1", "asi:2", "asi:1x3x2x2", "lance:2", "lance:9x2x9x1"]


def check(place, x, dy):
    saved, resident = WAYS[place.way.name].keep(x, place)
    parts = [*saved, *resident]
    found = WAYS[place.way.name].weight_grad(place, parts, dy)
    core, factors = parts[0], parts[1:]
    if place.way.name == "svd":
        factors = [factors[0] if mode == place.batch_axis else x.new_empty(0) for mode in range(x.dim())]
    restored = reconstruct(core, factors)
    assert restored.shape == place.cut(x).shape
    expected = place.live_grad(restored, dy)
    assert found.shape == expected.shape
    scale = place.live_grad(restored.abs(), dy.abs()).abs().max().clamp(min=1e-30)
    assert float((found - expected).abs().max() / scale) < FLOAT64_TOLERANCE
    stored = sum(part.untyped_storage().nbytes() for part in saved) // x.element_size()
    assert stored <= place.way.kept(place.compressed.modes, len(x), place.compressed.channels)
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
    place, x, dy = data.draw(st.one_of(convolutions("hosvd:1:1"), linears("hosvd:1:1")))
    if place.way.kept(place.compressed.modes, len(x), place.compressed.channels) >= place.cut(x).numel():
        restored = check(place, x, dy)
        if not place.memory.capped:
            assert float((restored - place.cut(x)).abs().max()) < 1e-6
