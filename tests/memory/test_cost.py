"""The channel table, against the layers one by one."""

import numpy as np
import pytest

from kilotune.errors import PlanError
from kilotune.graph.way import Charge
from kilotune.graph.ways import Int8
from kilotune.memory.cost import ChannelTable, chosen_cost, unit_cost
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
