"""Every value has memory of its own, also where PyTorch would hand out the same memory again."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune.graph.capture import capture
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer, saved_bytes
from kilotune.ops.prepare import prepare
from tests.oracles.dense import everything
from tests.oracles.networks import batch


class Tokens(nn.Module):
    """One token of eight features, so that a transposed or expanded value is contiguous as it is."""

    def __init__(self, middle, inputs):
        super().__init__()
        self.stem, self.part, self.head = nn.Linear(3, 8), nn.Linear(inputs, 8), nn.Linear(8, 5)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.middle = middle

    def forward(self, x):
        return self.head(self.middle(self, self.stem(x)).mean(1))


# Each keeps a value whole and beside it the same numbers as another node's output.
ALIASES = {
    "permute": (lambda m, x: m.part(x.transpose(1, 2)) + F.silu(x), 1),
    "expand": (lambda m, x: m.part(m.token.expand(x.shape[0], -1, -1)) * x, 8),
    "affine": (lambda m, x: m.part(x * 1.0) + F.silu(x), 8),
    "slice": (lambda m, x: m.part(x[:, 0:1]) * F.silu(x), 8),
}


@pytest.mark.parametrize("name", ALIASES)
def test_same_numbers_kept_twice_are_counted_twice(name):
    model = Tokens(*ALIASES[name])
    graph = capture(model, torch.zeros(1, 1, 3))
    plan = everything(graph)
    step = prepare(model, None, plan, graph)
    for n in (1, 2):
        x, y = batch((1, 3), n, 5)
        assert saved_by_layer(step, x, y) == ledger(graph, plan, batch=n).by_layer
        assert saved_bytes(step, x, y) == ledger(graph, plan, batch=n).saved_bytes
