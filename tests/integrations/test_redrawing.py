"""Redrawing in a hand-written loop: plans change, the optimiser follows, false accounts are refused."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kilotune.errors import RunError
from kilotune.integrations.redrawing import Redrawing
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_bytes


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(6) % 4


def train(redrawing: Redrawing, optimizer: torch.optim.Optimizer, epochs: int, steps: int) -> list:
    plans = []
    for epoch in range(epochs):
        for index in range(steps):
            redrawing.before_step(epoch, index, optimizer)
            plans.append(redrawing.step.plan)
            optimizer.zero_grad()
            cross_entropy(redrawing.step(X), Y).backward()
            redrawing.before_update()
            optimizer.step()
    return plans


@pytest.mark.parametrize(("redraw", "changes"), [("epoch", [3, 6]), ("never", []), (2, [2, 3, 5, 6, 8])])
def test_a_new_plan_when_it_is_due(redraw, changes):
    redrawing = Redrawing(network(), X[:1], budget=4000, ledger="selection", policy="trady", redraw=redraw)
    optimizer = torch.optim.SGD(redrawing.step.parameters(), lr=0.1)
    plans = train(redrawing, optimizer, epochs=3, steps=3)
    drawn = [step for step in range(1, 9) if plans[step] is not plans[step - 1]]
    assert drawn == changes


def test_norms_reach_the_policy_and_parameters_the_optimiser():
    redrawing = Redrawing(network(), X[:1], budget=4000, ledger="selection", policy="medyate", optimizer="adam")
    optimizer = torch.optim.Adam(redrawing.step.parameters(), lr=0.01)
    train(redrawing, optimizer, epochs=3, steps=2)
    assert redrawing.selection.state()["memory"]["norms"]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in redrawing.step.parameters()}
    assert {id(p) for p in optimizer.state} == held


def test_bytes_are_the_ledgers():
    redrawing = Redrawing(network(), X[:1], budget=4000, ledger="selection", policy="trady")
    kept = saved_bytes(redrawing.step, X[:1].clone(), Y[:1].clone())
    assert kept == redrawing.figures().saved_bytes
    assert saved_bytes(redrawing.step, X, Y) == ledger(redrawing.step.graph, redrawing.step.plan, batch=6).saved_bytes


def test_an_optimiser_that_the_ledger_was_not_told_of():
    redrawing = Redrawing(network(), X[:1], budget=4000, ledger="selection")
    optimizer = torch.optim.AdamW(redrawing.step.parameters(), lr=0.01)
    with pytest.raises(RunError, match=r"AdamW keeps 2 numbers .* say optimizer='adam'"):
        train(redrawing, optimizer, epochs=1, steps=2)


def test_a_model_moved_after_it_was_prepared():
    redrawing = Redrawing(network(), X[:1], budget=4000, ledger="selection")
    optimizer = torch.optim.SGD(redrawing.step.parameters(), lr=0.1)
    redrawing.step.model.to("meta")
    with pytest.raises(RunError, match="on meta"):
        redrawing.before_step(0, 0, optimizer)
