"""The doctor finds nothing wrong with the engine, and finds each fault that is put into it."""

from functools import cache

import pytest
import torch
from torch import nn

from kilotune.errors import ShapeError
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.ops import prepare as prepare_module
from kilotune.ops.prepare import Step
from kilotune.ops.slices import LiveWeight, Slice
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.policies.medyate import Medyate
from kilotune.report.case import Case, random_batch, settle
from kilotune.report.doctor import CHECKS, examine
from kilotune.update_plan import Budget

BUDGET = Budget(9000, "selection")


def small_network() -> nn.Module:
    """Convolution, grouped and depthwise convolution with batch norm, a shortcut-free tail, a classifier."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.Conv2d(16, 24, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


@pytest.fixture(autouse=True)
def _one_thread():
    """Layers this small only wait for a second thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@cache
def captured() -> Graph:
    return capture(small_network(), torch.zeros(1, 3, 8, 8))


def case(policy: str = "medyate", budget: Budget = BUDGET) -> Case:
    model, graph = small_network(), captured()
    x, y = random_batch(graph, 8, seed=0)
    settle(model, x)
    return Case.of(model, graph, Selector.fit(graph, make(policy), budget), budget, x, y)


def failed(one: Case) -> set[str]:
    return {check.name for check in examine(one) if not check.passed}


@pytest.mark.parametrize(
    ("policy", "budget"),
    [
        ("medyate", BUDGET),
        ("trady", BUDGET),
        ("dgsu", BUDGET),
        ("full", Budget(1 << 30)),
        ("classifier", Budget(1 << 30)),
        ("bias", Budget(1 << 30)),
        ("last", Budget(1 << 30)),
    ],
)
def test_a_working_engine_passes(policy, budget):
    checks = examine(case(policy, budget))
    assert [check.name for check in checks] == list(CHECKS)
    assert not [check for check in checks if not check.passed]


def test_the_examined_model_is_left_as_it_was():
    one = case()
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    examine(one)
    assert all(torch.equal(before[name], tensor) for name, tensor in one.model.state_dict().items())


def test_a_gradient_of_the_wrong_sign(monkeypatch):
    cut = Slice.cut
    monkeypatch.setattr(Slice, "cut", lambda self, weight: -cut(self, weight))
    assert "gradients equal dense autograd" in failed(case())


def test_weights_that_do_not_reach_the_model(monkeypatch):
    monkeypatch.setattr(LiveWeight, "commit", lambda self: None)
    assert {"only the plan changes", "gradients equal dense autograd"} <= failed(case())


def test_a_commit_that_writes_too_much(monkeypatch):
    commit = LiveWeight.commit

    def careless(self):
        commit(self)
        self.base.mul_(1.001)

    monkeypatch.setattr(LiveWeight, "commit", careless)
    assert {"only the plan changes", "undo is exact"} <= failed(case())


def test_an_optimiser_left_behind(monkeypatch):
    monkeypatch.setattr(prepare_module, "move_optimizer", lambda *args, **kwargs: None)
    assert failed(case()) == {"optimiser follows redraws"}


def test_an_optimiser_that_keeps_old_parameters(monkeypatch):
    move = prepare_module.move_optimizer

    def leaky(optimizer, old, new, *rest, **named):
        move(optimizer, old, new, *rest, **named)
        optimizer.param_groups[0]["params"] += [p for p in old.values() if all(p is not q for q in new.values())]

    monkeypatch.setattr(prepare_module, "move_optimizer", leaky)
    assert failed(case()) == {"optimiser follows redraws"}


def test_batch_norm_that_goes_on_counting(monkeypatch):
    forward = Step.forward

    def counting(self, x):
        if self.training:
            self.model[3].running_mean.add_(0.1)
        return forward(self, x)

    monkeypatch.setattr(Step, "forward", counting)
    assert {"batch norm is frozen", "only the plan changes"} & failed(case())


def test_activations_kept_in_secret(monkeypatch):
    forward = Step.forward

    def wasteful(self, x):
        logits = forward(self, x)
        return logits * logits.detach().abs().clamp(min=1).sign() if torch.is_grad_enabled() else logits

    monkeypatch.setattr(Step, "forward", wasteful)
    assert failed(case()) == {"kept bytes equal the ledger"}


def test_a_draw_over_its_bound(monkeypatch):
    draw = Medyate.draw
    monkeypatch.setattr(Medyate, "draw", lambda self, task, size, *rest: draw(self, task, 2 * size, *rest))
    assert "every draw fits" in failed(case())


def test_a_label_that_is_ignored(monkeypatch):
    monkeypatch.setattr(Case, "loss", lambda self, step: step(self.x).square().mean())
    assert not {"loss falls on one batch"} & failed(case())  # it does fall, which is why labels are checked apart


def test_a_network_that_ignores_its_input():
    one = case()
    with torch.no_grad():
        one.model[2].weight.zero_()
    assert "input and label matter" in failed(one)


def test_one_example_is_not_enough():
    one = case()
    with pytest.raises(ShapeError, match="two examples"):
        Case.of(one.model, one.graph, one.selector, one.budget, one.x[:1], one.y[:1])
