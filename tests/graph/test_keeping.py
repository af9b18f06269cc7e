"""Which layers keep their input compressed."""

import pytest
import torch
from torch import nn

from kilotune.errors import PlanError
from kilotune.graph.backward import StepGraph, check_plan
from kilotune.graph.capture import capture
from kilotune.graph.keeping import keep_all, modes_of, reads_image, ways_of
from kilotune.graph.way import Modes
from kilotune.update_plan import ChannelSet, Keep, UpdatePlan

MODEL = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.Flatten(2), nn.Linear(16, 4), nn.Flatten(),
    nn.Linear(24, 5),
)  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return capture(MODEL.eval(), torch.zeros(1, 3, 8, 8))


def test_one_way_for_all_leaves_out_who_reads_the_image_and_the_classifier(graph):
    assert keep_all(graph, "hosvd:0.8") == (Keep("2", "hosvd:0.8:0.5"), Keep("4", "hosvd:0.8:0.5"))
    assert keep_all(graph, None) == ()


def test_ways_by_layer(graph):
    keeps = keep_all(graph, {"6": "int4", "2": "asi:2"})
    assert keeps == (Keep("2", "asi:2"), Keep("6", "int4"))
    assert [str(way) for way in ways_of(keeps).values()] == ["asi:2", "int4"]


def test_modes(graph):
    assert modes_of(graph, graph.layer["2"]) == Modes((1, 8, 8, 8), 0, 1, (4, 4))
    assert modes_of(graph, graph.layer["4"]) == Modes((1, 6, 16), 0, 2, (6, 1))
    assert [reads_image(graph, layer) for layer in graph.layers] == [True, False, False, False]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (UpdatePlan(keeps=(Keep("9", "int8"),)), "no layer '9'"),
        (UpdatePlan(keeps=(Keep("2", "int8"),)), "keeps the input of 2 as int8, but does not train its weights"),
        (UpdatePlan((ChannelSet("0", "in", (1,)),), keeps=(Keep("0", "int8"),)), "0 reads the image"),
        (UpdatePlan((ChannelSet("2", "in", (1,)),), keeps=(Keep("2", "zip"),)), "no way of keeping 'zip'"),
        (UpdatePlan((ChannelSet("4", "in", (1,)),), keeps=(Keep("4", "filter:2"),)), "4 is a linear layer"),
        (
            UpdatePlan((ChannelSet("2", "in", (1,)),), keeps=(Keep("2", "asi:2x2"),)),
            "has 2 ranks, its input has 4 modes",
        ),
    ],
)
def test_plans_that_do_not_fit(graph, plan, message):
    with pytest.raises(PlanError, match=message):
        check_plan(graph, plan)


def test_one_way_per_layer():
    with pytest.raises(PlanError, match="2 appear more than once among the plan's keeps"):
        UpdatePlan(keeps=(Keep("2", "int8"), Keep("2", "int4")))


def test_compressed_inputs_are_kept_instead(graph):
    keeps = (Keep("2", "int8"), Keep("4", "asi:2"), Keep("6", "int4"))
    plan = UpdatePlan((ChannelSet("2", "in", (0, 5)), ChannelSet("4", "out", (1,))), keeps=keeps)
    kept = {thing.layer: thing for thing in StepGraph.of(graph, plan).kept if thing.form == "compressed"}
    assert [thing.elements for thing in kept.values()] == [2 * (16 + 1), 1 * 2 * 2, 24 * (1 + 1)]
    assert [thing.nbytes(3) for thing in kept.values()] == [4 * 2 * (48 + 1), 4 * 2 * 2 * 2, 4 * 24 * (1 + 1)]


def test_json_round_trip():
    plan = UpdatePlan((ChannelSet("2", "in", (1,)),), keeps=(Keep("2", "hosvd:0.8"),))
    assert UpdatePlan.from_json(plan.to_json()) == plan
    assert '"keeps":[["2","hosvd:0.8"]]' in plan.to_json()
