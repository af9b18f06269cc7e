"""The bytes of each layer add up to the ledger's, kind by kind."""

from functools import cache

import pytest
import torch
from torch import nn

from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import ledger
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.report.breakdown import KINDS, SAVED_KINDS, breakdown
from kilotune.update_plan import Budget, UpdatePlan


@cache
def graph() -> Graph:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1, groups=2),
        nn.Hardswish(), nn.Conv2d(16, 12, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    return capture(model, torch.zeros(1, 3, 8, 8))


@cache
def plan(number: int) -> UpdatePlan:
    """Four draws, three that train whole layers, and nothing."""
    if number == N_PLANS - 1:
        return UpdatePlan(classifier=False)
    name, budget, seed = CHOICES[number]
    return Selector.fit(graph(), make(name), budget, seed).draw()


SMALL, LARGE = Budget(1500, "selection"), Budget(1 << 30)
CHOICES = (
    ("trady", SMALL, 0), ("trady", SMALL, 1), ("random", SMALL, 0), ("random", SMALL, 1),
    ("full", LARGE, 0), ("bias", LARGE, 0), ("classifier", LARGE, 0),
)  # fmt: skip
N_PLANS = len(CHOICES) + 1


@pytest.mark.parametrize("accounting", [Accounting(), Accounting(3, False, "adam")])
@pytest.mark.parametrize("number", range(N_PLANS))
def test_it_adds_up_to_the_ledger(number, accounting):
    layers = breakdown(graph(), plan(number), accounting)
    report = ledger(graph(), plan(number), accounting=accounting)
    saved = {name: sum(kinds[kind] for kind in SAVED_KINDS) for name, kinds in layers.items()}
    assert {name: n for name, n in saved.items() if n} == {
        k: v for k, v in report.by_layer.items() if k != "loss" and v
    }
    for ours, suffix in (("weights", ""), ("weight gradients", "_gradient"), ("optimiser state", "_optimizer")):
        resident = sum(report.by_kind.get(f"{kind}{suffix}", 0) for kind in ("overlay", "bias", "classifier"))
        assert sum(kinds[ours] for kinds in layers.values()) == resident


def test_layers_come_in_forward_order_with_every_kind():
    layers = breakdown(graph(), plan(4), Accounting())
    assert [name for name in layers if name in graph().layer] == [layer.name for layer in graph().layers]
    assert all(tuple(kinds) == KINDS for kinds in layers.values())
