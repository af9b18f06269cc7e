"""Tensors made in forward() are known with their values, whatever made them, and are there once."""

import pytest
import torch
from torch import nn

from kilotune.errors import UnsupportedError
from kilotune.graph.capture import capture
from kilotune.graph.node import Constant, Expand, Lookup, Parameter
from kilotune.ops.prepare import prepare
from kilotune.update_plan import UpdatePlan

X = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
FROZEN = UpdatePlan(classifier=False)


class Net(nn.Module):
    """``head(forward(x))``, with a table and a buffer of numbers to index it by."""

    def __init__(self, middle):
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 6))
        self.places = nn.Buffer(torch.tensor([[3, 0, 8, 3]]), persistent=False)
        self.head = nn.Linear(6, 2)
        self.middle = middle

    def forward(self, x):
        return self.head(self.middle(self, x).mean(1))


def _filled(m, x):
    mask = x.new_zeros(4, 6)
    mask[1:3, ::2] = 2.5
    mask[0] += torch.arange(6)
    return x + mask


def _every_example(m, x):
    return x + torch.ones(x.shape[0], 4, 1) * torch.arange(6).expand(x.shape[0], 1, 6)


def _looked_up(m, x):
    rows = m.places.expand(x.shape[0], -1)
    return x + nn.functional.embedding(rows, m.table) + m.table[m.places[0]]


def _twice(m, x):
    seen = torch.eye(4)
    return torch.cat([seen, seen], 1)[:, :4].expand(x.shape[0], 4, 4) @ x


KNOWN = {
    "written in place": (_filled, 1),
    "the same for every example": (_every_example, 1),
    "rows of a table": (_looked_up, 2),
    "in a matrix product": (_twice, 1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_values(name):
    middle, n_constants = KNOWN[name]
    model = Net(middle).eval()
    graph = capture(model, X)
    assert sum(isinstance(node.op, Constant) for node in graph.nodes) == n_constants
    step = prepare(model, X, FROZEN, graph)
    assert torch.allclose(step(X), model(X))


def test_rows_that_no_example_changes_are_looked_up_once_and_never_repeated():
    graph = capture(Net(_looked_up), X)
    kinds = [type(node.op) for node in graph.nodes]
    assert kinds.count(Lookup) == 2
    assert kinds.count(Parameter) == 1
    assert Expand not in kinds
    assert {node.name for node in graph.nodes if isinstance(node.op, Lookup | Parameter | Constant)} <= graph.constants


def test_random_tensors_are_not_known():
    with pytest.raises(UnsupportedError, match="rand"):
        capture(Net(lambda m, x: x + torch.rand(6)), X)
