"""Records of the network: shapes at any batch, sums over layers, lookups that fail with the names there are."""

import pytest
import torch
from torch import nn

from kilotune.errors import PlanError
from kilotune.graph.capture import capture
from kilotune.graph.node import TensorInfo
from kilotune.ops import program
from kilotune.ops.prepare import prepare
from kilotune.update_plan import UpdatePlan
from tests.oracles.modules import MODULES, build, captured
from tests.oracles.networks import batch


def test_shapes_grow_along_the_batch_axis_only():
    assert TensorInfo((1, 3, 4)).at(5) == (5, 3, 4)
    assert TensorInfo((6, 3), 0).at(2) == (12, 3)
    assert TensorInfo((3, 1, 4), 1).at(5) == (3, 5, 4)
    assert TensorInfo((3, 4), None).at(5) == (3, 4)
    assert TensorInfo((2, 3, 4)).elements == 24


@pytest.mark.parametrize("name", ["attention by hand", "nn.MultiheadAttention", "class token", "unbind", "shuffle"])
def test_predicted_shapes_are_those_at_run_time(name):
    """Every value of the network, also where the batch is not the first axis."""
    graph, seen = captured(name), {}
    original = dict(program.FORWARD)

    def recording(run):
        def run_and_record(node, weights, inputs, n):
            value = run(node, weights, inputs, n)
            seen[node.name] = tuple(value.shape)
            return value

        return run_and_record

    step = prepare(build(name), None, UpdatePlan(classifier=False), graph, dtype=torch.float64)
    try:
        program.FORWARD.update({kind: recording(run) for kind, run in original.items()})
        step(batch((3, 6, 6), 3, 5, dtype=torch.float64)[0])
    finally:
        program.FORWARD.update(original)
    assert len(seen) > 3
    assert all(graph.node[node].output.at(3) == shape for node, shape in seen.items())


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
def test_nodes_come_after_their_inputs():
    for name in MODULES:
        known = set()
        for node in captured(name).nodes:
            assert known.issuperset(node.inputs)
            known.add(node.name)


def test_sums_over_layers():
    graph = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)), torch.zeros(1, 3, 8, 8))
    assert graph.macs == 3 * 4 * 9 * 36 + 144 * 5
    assert graph.selection_total_elements == 108 + 192, "the classifier does not count"
    assert graph.input.shape == (1, 3, 8, 8)


def test_unknown_layer():
    graph = capture(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.zeros(1, 3, 2, 2))
    with pytest.raises(PlanError, match="Sequential has no layer 'conv'; its layers are 1"):
        graph.find_layer("conv")
