"""The whole search on a tiny network: the budget, the files it leaves, and going on where it was broken off."""

import copy

import pytest
import torch
from torch import nn

from kilotune.data.images import Split
from kilotune.errors import BudgetError, PlanError
from kilotune.graph.capture import capture
from kilotune.memory.ledger import ledger
from kilotune.policies.fit import plan as make_plan
from kilotune.train.search import find_scheme
from kilotune.update_plan import Budget

EXAMPLE = torch.zeros(1, 3, 8, 8)
FIELDS = {"lr": 0.05, "batch_size": 6, "augment": "none", "generations": 4, "population": 8}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, groups=8), nn.ReLU(),
        nn.Conv2d(8, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(36) % 4
    pixels = torch.randint(0, 120, (36, 3, 8, 8), generator=generator) + 40 * labels.view(-1, 1, 1, 1)
    split = Split(pixels.clamp(max=255).to(torch.uint8), labels)
    return split.select(torch.arange(24)), split.select(torch.arange(24, 36))


@pytest.mark.parametrize("budget", [Budget(1200, "selection"), Budget(7000, "total")], ids=str)
@pytest.mark.parametrize("score", ["gradient", "loss"])
def test_the_scheme_fits_and_is_what_sparse_update_trains(model, images, tmp_path, budget, score):
    found = find_scheme(model, EXAMPLE, *images, budget, tmp_path, score, **FIELDS)
    assert found.ratios
    found.save(tmp_path / "scheme.json")
    graph = capture(model, EXAMPLE)
    plan = make_plan(graph, "sparse_update", budget.nbytes, budget.ledger, scheme=str(tmp_path / "scheme.json"))
    report = ledger(graph, plan)
    assert {"total": report.total_bytes, "selection": report.selection_bytes}[budget.ledger] <= budget.nbytes
    assert {one.layer: len(one.indices) for one in plan.channels} == {
        graph.body[row].name: int(graph.body[row].in_channels * ratio) for row, ratio in found.ratios.items()
    }
    assert len(plan.biases) == found.n_bias
    assert found.provenance["score"] == score


def test_the_same_seed_gives_the_same_scheme(model, images, tmp_path):
    budget = Budget(1200, "selection")
    found = [find_scheme(model, EXAMPLE, *images, budget, tmp_path / name, **FIELDS) for name in "ab"]
    assert found[0] == found[1]


def test_goes_on_where_it_was_broken_off(model, images, tmp_path, monkeypatch):
    budget = Budget(1200, "selection")
    whole = find_scheme(model, EXAMPLE, *images, budget, tmp_path / "whole", "loss", **FIELDS)
    told = []

    def broken(message):
        told.append(message)
        if len(told) in (5, 9):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            find_scheme(model, EXAMPLE, *images, budget, tmp_path / "broken", "loss", tell=broken, **FIELDS)
    again = find_scheme(model, EXAMPLE, *images, budget, tmp_path / "broken", "loss", tell=broken, **FIELDS)
    assert again == whole
    assert len(set(told)) == len(told)  # Nothing was done twice.


def test_another_budget_needs_no_second_measurement(model, images, tmp_path, monkeypatch):
    find_scheme(model, EXAMPLE, *images, Budget(1200, "selection"), tmp_path, **FIELDS)
    told = []
    smaller = find_scheme(model, EXAMPLE, *images, Budget(600, "selection"), tmp_path, tell=told.append, **FIELDS)
    assert not any("measured" in message for message in told)
    assert told[0].startswith("generation 0")
    fresh = find_scheme(model, EXAMPLE, *images, Budget(600, "selection"), tmp_path / "fresh", **FIELDS)
    assert smaller == fresh


def test_other_options_do_not_mix_with_what_was_measured(model, images, tmp_path):
    find_scheme(model, EXAMPLE, *images, Budget(1200, "selection"), tmp_path, **FIELDS)
    with pytest.raises(PlanError, match="measured with recipe"):
        find_scheme(model, EXAMPLE, *images, Budget(1200, "selection"), tmp_path, **{**FIELDS, "lr": 0.1})


def test_a_budget_that_nothing_fits_is_refused(model, images, tmp_path):
    with pytest.raises(BudgetError, match="0 biases and the classifier of Sequential need"):
        find_scheme(model, EXAMPLE, *images, Budget(100), tmp_path, **FIELDS)


def test_the_model_stays_as_it_is(model, images, tmp_path):
    before = copy.deepcopy(model.state_dict())
    find_scheme(model, EXAMPLE, *images, Budget(1200, "selection"), tmp_path, **FIELDS)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
