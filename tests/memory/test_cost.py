"""The channel table, against the layers one by one."""

from functools import cache

import numpy as np
import pytest
import torch

from kilotune.errors import PlanError
from kilotune.graph.capture import capture
from kilotune.graph.way import Charge
from kilotune.graph.ways import Int8, parse_way
from kilotune.memory.cost import ChannelTable, chosen_cost, unit_cost
from kilotune.models import create
from kilotune.update_plan import ChannelSet, Keep
from tests.oracles.dense import everything
from tests.oracles.modules import captured
from tests.oracles.zoo import captured_published


@pytest.fixture(scope="module")
def table():
    return ChannelTable.of(captured_published("mcunet_in1"))


def test_rows_are_the_body(table):
    body = captured_published("mcunet_in1").body
    assert table.names == tuple(layer.name for layer in body)
    for row, layer in enumerate(body):
        assert (
            table.cost[row]
            == layer.channel_cost_elements
            == layer.channel_weight_elements + layer.channel_input_elements
        )
        assert table.row(layer.name) == row
        assert len(table.ids(row)) == layer.in_channels
        assert table.norms[table.ids(row)].tolist() == list(layer.input_norms)
    assert int(table.channels @ table.cost) == table.channel_cost.sum() == 1_309_808
    assert table.n_channels == len(table.norms) == len(table.layer_of)


def test_ids_and_channel_sets_are_inverse(table):
    ids = np.random.default_rng(0).choice(table.n_channels, 200, replace=False)
    sets = table.to_sets(ids)
    assert table.to_ids(sets).tolist() == sorted(ids)
    assert [table.row(chosen.layer) for chosen in sets] == sorted({int(table.layer_of[i]) for i in ids})


def test_all_channels_are_the_full_plan():
    graph = captured("conv grouped")
    table = ChannelTable.of(graph)
    assert table.to_sets(np.arange(table.n_channels)) == everything(graph).channels


def test_nothing(table):
    assert table.to_sets(np.array([], dtype=np.int64)) == ()
    assert table.to_ids(()).tolist() == []


def test_unknown_layer(table):
    with pytest.raises(PlanError, match="no layer 'fc'"):
        table.row("fc")


def test_neurons_are_charged_the_whole_input_once():
    graph = captured_published("mcunet_in1")
    table = ChannelTable.of(graph, "out")
    for row, layer in enumerate(graph.body):
        depthwise = layer.kind == "depthwise_conv2d"
        assert table.weight[row] == layer.neuron_weight_elements
        assert table.channels[row] == layer.out_channels
        assert table.activation[row] == (layer.channel_input_elements if depthwise else 0)
        assert table.once[row] == (0 if depthwise else layer.input_elements)
    assert table.total(table.channels) == 1_309_808, "all neurons are all channels"
    assert table.to_sets(np.array([0, 3]))[0].axis == "out"


@pytest.mark.parametrize("axis", ["in", "out"])
def test_kept_compressed_costs_what_its_way_says(axis):
    graph = captured("conv strided")
    table = ChannelTable.of(graph, axis, (Keep("part", "int8"),))
    row = table.row("part")
    cost = unit_cost(graph, graph.layer["part"], axis, Int8())
    assert cost.kept == {"in": Charge(0, 9 + 1), "out": Charge(8 * (9 + 1), 0)}[axis]
    assert (table.once[row], table.activation[row]) == cost.kept
    chosen = chosen_cost(graph, ChannelSet("part", axis, (1, 4)), {"part": Int8()})
    assert chosen.kept == {"in": 2 * 10, "out": 8 * 10}[axis]
    assert chosen.weights == 2 * cost.weight


# MiB of the last 2 and 4 convolutions' inputs at 224x224, batch 128 (arXiv 2411.06346, tables 2 and 3; notes, section 7.6).
PUBLISHED_MIB = {
    ("mobilenet_v2_w1.0", "exact"): (30.63, 57.42),
    ("mobilenet_v2_w1.0", "filter:2"): (10.00, 18.75),
    ("mobilenet_v2_w1.0", "filter:7"): (0.63, 1.17),
    ("mcunet_in1", "exact"): (27.56, 39.05),
    ("mcunet_in1", "filter:2"): (9.00, 12.75),
    ("mcunet_in1", "filter:7"): (0.56, 0.80),
}


@cache
def at_224(name):
    return capture(create(name, classes=10), torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize(("name", "way"), PUBLISHED_MIB)
def test_published_memory_of_kept_inputs(name, way):
    """HOSVD's accounting: float32, the whole batch, conv inputs only, 2^20 bytes; printed with two decimals."""
    graph = at_224(name)
    ways = {} if way == "exact" else {layer.name: parse_way(way) for layer in graph.body}
    for n_layers, published in zip((2, 4), PUBLISHED_MIB[name, way], strict=True):
        sets = [ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in graph.body[-n_layers:]]
        mib = sum(chosen_cost(graph, chosen, ways, batch=128).kept for chosen in sets) * 4 / 2**20
        assert mib == pytest.approx(published, abs=0.006)
