"""The channel table, against the layers one by one."""

import numpy as np
import pytest

from kilotune.errors import PlanError
from kilotune.memory.cost import ChannelTable
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
