"""What ways of keeping need on a device: a tile of channels, or the means and one channel of gradient filtering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.graph.keeping import modes_of
from kilotune.graph.scratch import Scratch, scratch
from kilotune.graph.tiles import scratch_in_tiles, tile
from kilotune.graph.way import Charge
from kilotune.graph.ways import parse_way
from tests.oracles.modules import captured

TEXTS = ("int8", "int4", "prune:0.1", "pattern:1", "filter:2")


def test_a_matrix_product_takes_four_channels_everything_else_one():
    layers = captured("conv norm").layers
    assert {tile(layer) for layer in layers if layer.kind == "linear"} == {1}
    for layer in layers:
        assert tile(layer) == (4 if layer.kind == "conv2d" and layer.kernel == (1, 1) and layer.groups == 1 else 1)


@pytest.mark.parametrize("text", TEXTS)
@given(most=st.integers(1, 16))
def test_less_than_on_tensors(text, most):
    """And nothing where the input is compressed."""
    graph = captured("conv norm")
    layer = graph.layer["part.0"]
    way, modes = parse_way(text), modes_of(graph, layer)
    device, host = (needs(way, layer, modes, 1, most) for needs in (scratch_in_tiles, scratch))
    assert device.forward == Charge()
    if text != "filter:2":
        assert device.backward.once <= tile(layer) * modes.positions(1)
        assert device.backward.once <= host.backward.once + most * host.backward.unit


def test_filtering_needs_means_and_one_channel():
    graph = captured("conv norm")
    layer = graph.layer["part.0"]
    rows, columns = (-(-size // 2) for size in layer.output_hw)
    needs = scratch_in_tiles(parse_way("filter:2"), layer, modes_of(graph, layer), 1, 3)
    largest = max(layer.out_channels // layer.groups, rows * columns)
    assert needs == Scratch(backward=Charge(layer.out_channels * rows * columns + largest))


def test_exactly_kept_inputs_need_nothing():
    graph = captured("conv norm")
    layer = graph.layer["part.0"]
    assert scratch_in_tiles(None, layer, modes_of(graph, layer), 1, 2) == Scratch()
