"""Folding: fewer nodes, the same function, and only where it is exact."""

import pytest
import torch
from torch import nn

from kilotune.graph.capture import capture
from kilotune.graph.node import BatchNorm, Conv2d, Linear, Pad
from kilotune.ops.prepare import prepare
from kilotune.update_plan import UpdatePlan
from tests.oracles.dense import FLOAT64_TOLERANCE, relative_error
from tests.oracles.networks import batch, randomise


class Branch(nn.Module):
    """The padded image and the convolution's output are read twice, so nothing may be folded into their readers."""

    def __init__(self):
        super().__init__()
        self.pad, self.a, self.b = nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4 * 36, 5)

    def forward(self, x):
        x = self.pad(x)
        y = self.a(x)
        return self.head((self.norm(y) + y * self.b(x)).flatten(1))


FOLDED = {
    "conv norm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 0),
    "pad conv norm": (nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)), 0),
    "linear norm": (nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.BatchNorm1d(4)), 0),
    "two norms": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), 1),
    "norm conv": (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), 1),
    "conv relu norm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), 1),
    "pad relu conv": (nn.Sequential(nn.ZeroPad2d(1), nn.Sigmoid(), nn.Conv2d(3, 4, 3)), 1),
    "tokens norm": (nn.Sequential(nn.Flatten(2), nn.Linear(36, 4), nn.BatchNorm1d(3)), 1),
    "branch": (Branch(), 2),
}


@pytest.mark.parametrize("name", FOLDED)
def test_same_function_with_fewer_nodes(name):
    model, n_left = FOLDED[name]
    model = randomise(model.double().eval())
    graph = capture(model, torch.zeros(1, 3, 6, 6, dtype=torch.float64))
    assert sum(isinstance(node.op, BatchNorm | Pad) for node in graph.nodes) == n_left
    x, _ = batch((3, 6, 6), 3, 5, dtype=torch.float64)
    step = prepare(model, None, UpdatePlan(classifier=False), graph, dtype=torch.float64)
    assert relative_error(step(x), model(x).detach()) < FLOAT64_TOLERANCE


def test_folded_convolution_knows_its_norm_and_padding():
    model = nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4, eps=1e-3))
    graph = capture(model, torch.zeros(1, 3, 6, 6))
    (_, node) = graph.nodes
    assert isinstance(node.op, Conv2d)
    assert node.op.padding == (3, 2, 1, 2)
    assert (node.op.norm.weight, node.op.norm.mean, node.op.norm.epsilon) == ("2.weight", "2.running_mean", 1e-3)
    assert graph.layers[0].has_bias, "the shift of the norm"
    assert graph.layers[0].name == "1"


def test_what_nobody_reads_is_dropped():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 5), nn.Linear(4, 5)

        def forward(self, x):
            self.unused(x).relu()
            return self.used(x)

    graph = capture(Dead(), torch.zeros(1, 4))
    assert [node.op.weight for node in graph.nodes if isinstance(node.op, Linear)] == ["used.weight"]
