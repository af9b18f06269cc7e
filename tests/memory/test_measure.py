"""Measuring what autograd keeps, on networks small enough to count by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune.memory.measure import saved_by_layer, saved_bytes
from kilotune.ops.prepare import prepare
from kilotune.update_plan import UpdatePlan

LOSS = 2 * 5 * 4 + 2 * 8 + 4  # log-probabilities, labels, scale


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))


@pytest.fixture
def example():
    return torch.randn(2, 3), torch.tensor([0, 4])


def test_any_module(model, example):
    """ReLU's output is what the second layer keeps too: one storage. The input and the parameters are not counted."""
    assert saved_bytes(model, *example) == 2 * 4 * 4 + LOSS


def test_another_loss(model, example):
    x, _ = example
    target = torch.zeros(2, 5)
    assert saved_bytes(model, x, target, F.mse_loss) == 2 * 4 * 4 + 2 * 5 * 4 + 2 * 5 * 4


def test_prepared_module(model, example):
    step = prepare(model, example[0], UpdatePlan((), ("0",)))
    assert saved_by_layer(step, *example) == {"1": 1, "2": 2 * 4 * 4, "loss": LOSS}
    assert saved_bytes(step, *example) == 1 + 32 + LOSS


def test_measuring_trains_nothing(model, example):
    before = [p.clone() for p in model.parameters()]
    with torch.no_grad():
        assert saved_bytes(model, *example) > 0, "also where gradients are switched off outside"
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
