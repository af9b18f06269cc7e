"""Changing the plan between steps: committed, re-gathered, optimiser state carried or dropped, nothing left behind."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F

from kilotune.errors import PlanError
from kilotune.graph.capture import capture
from kilotune.ops.prepare import prepare
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.dense import everything
from tests.oracles.networks import Geometry, batch

SIZE = (7, 6)
GEOMETRY = Geometry(2, 3, 2, (3, 3), (1, 1), (1, 1, 1, 1), 1, True, True, "relu6", SIZE)
FIRST, MIDDLE = "0", "4"
A = UpdatePlan((ChannelSet(FIRST, "in", (0,)), ChannelSet(MIDDLE, "in", (0, 2, 5))), (MIDDLE,))
B = UpdatePlan((ChannelSet(MIDDLE, "in", (1, 2, 5)), ChannelSet("7", "out", (1,))), (MIDDLE, FIRST))

OPTIMIZERS = {
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), ["momentum_buffer"]),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), ["exp_avg", "exp_avg_sq"]),
}


@pytest.fixture
def model():
    return GEOMETRY.build()


@pytest.fixture
def step(model):
    return prepare(model, torch.zeros(1, 2, *SIZE, dtype=torch.float64), A, dtype=torch.float64)


def train(step, optimizer, n_steps, seed=0):
    for number in range(n_steps):
        x, y = batch((2, *SIZE), 3, 5, seed + number, torch.float64)
        optimizer.zero_grad()
        F.cross_entropy(step(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kept_state_moves_with_its_channel(step, name):
    make, keys = OPTIMIZERS[name]
    optimizer = make(step.parameters())
    train(step, optimizer, 2)
    old = dict(step.live)
    state = {live: {key: optimizer.state[p][key].clone() for key in keys} for live, p in old.items()}
    step.replan(B, optimizer, "keep")
    new = optimizer.state[step.live[f"{MIDDLE}.weight"]]
    for key in keys:
        before = state[f"{MIDDLE}.weight"][key]
        assert torch.equal(new[key][0], torch.zeros_like(new[key][0])), "channel 1 is new"
        assert torch.equal(new[key][1], before[1]), "channel 2 was and is the second"
        assert torch.equal(new[key][2], before[2]), "channel 5 was and is the third"
        assert torch.equal(optimizer.state[step.live[f"{MIDDLE}.bias"]][key], state[f"{MIDDLE}.bias"][key])
    assert step.live["10.weight"] is old["10.weight"]
    assert len(optimizer.state) == 4, "two slices and a bias went or came"
    train(step, optimizer, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_reset_drops_the_state_of_redrawn_slices_only(step, name):
    make, keys = OPTIMIZERS[name]
    optimizer = make(step.parameters())
    train(step, optimizer, 2)
    step.replan(B, optimizer)
    assert step.live[f"{MIDDLE}.weight"] not in optimizer.state
    assert all(key in optimizer.state[step.live[f"{MIDDLE}.bias"]] for key in keys)
    assert all(key in optimizer.state[step.live["10.weight"]] for key in keys)


def test_optimizer_has_exactly_the_live_parameters(step):
    others = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(
        [{"params": others.parameters(), "lr": 1.0}, {"params": list(step.parameters()), "lr": 0.1}]
    )
    for plan in (B, A, UpdatePlan(), B):
        step.replan(plan, optimizer)
        groups = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
        assert groups == [{id(p) for p in others.parameters()}, {id(p) for p in step.live.values()}]
        assert {id(p) for p in step.parameters()} == groups[1]


def test_what_was_trained_is_committed(model, step):
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    before = model.state_dict()[f"{MIDDLE}.weight"].clone()
    train(step, optimizer, 1)
    trained = step.live[f"{MIDDLE}.weight"].detach().clone()
    step.replan(B, optimizer)
    weight = model.state_dict()[f"{MIDDLE}.weight"]
    assert torch.equal(weight[:2, 0], trained[0])
    assert torch.equal(weight[2:, 2], trained[2])
    assert torch.equal(weight[:2, 1], before[:2, 1])
    assert torch.equal(step.live[f"{MIDDLE}.weight"][1], trained[1])


def test_same_plan_again_changes_nothing():
    """Re-planning after every step with the plan in force gives bit for bit the uninterrupted run."""
    results = []
    for interrupted in (False, True):
        model = GEOMETRY.build()
        step = prepare(model, torch.zeros(1, 2, *SIZE, dtype=torch.float64), A, dtype=torch.float64)
        optimizer = torch.optim.Adam(step.parameters(), lr=0.01)
        for number in range(4):
            train(step, optimizer, 1, seed=number)
            if interrupted:
                step.replan(A, optimizer)
        results.append({name: tensor.clone() for name, tensor in step.sync().state_dict().items()})
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_detour_through_another_plan_changes_nothing():
    """Bit for bit: plain SGD remembers nothing, and committing and re-gathering a slice rounds nothing."""
    results = []
    for detour in (False, True):
        model = GEOMETRY.build()
        step = prepare(model, torch.zeros(1, 2, *SIZE, dtype=torch.float64), A, dtype=torch.float64)
        optimizer = torch.optim.SGD(step.parameters(), lr=0.05)
        for number in range(3):
            train(step, optimizer, 1, seed=number)
            if detour:
                step.replan(B, optimizer)
                step.replan(A, optimizer)
        results.append({name: tensor.clone() for name, tensor in step.sync().state_dict().items()})
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_impossible_plan_changes_nothing(step):
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    live, groups = dict(step.live), list(optimizer.param_groups[0]["params"])
    with pytest.raises(PlanError, match="channel 99"):
        step.replan(UpdatePlan((ChannelSet(MIDDLE, "in", (99,)),)), optimizer)
    assert step.plan is A
    assert all(step.live[name] is live[name] for name in live)
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], groups, strict=True))


def test_fifty_plans_leave_nothing_behind(step):
    plans = [A, B, everything(step.graph), UpdatePlan()]
    optimizer = torch.optim.Adam(step.parameters(), lr=0.01)

    def cycle():
        """(tensors alive, parameters with optimiser state) after training every plan once; no slice of theirs is left."""
        redrawn = []
        for plan in plans:
            step.replan(plan, optimizer, "keep")
            train(step, optimizer, 1)
            redrawn += [weakref.ref(parameter) for name, parameter in step.live.items() if not name.startswith("10.")]
        gc.collect()
        assert not any(parameter() for parameter in redrawn)
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()), len(optimizer.state)

    first = cycle()
    assert all(cycle() == first for _ in range(12))
    classifier = weakref.ref(step.live["10.weight"])
    step.replan(UpdatePlan(classifier=False), optimizer)
    gc.collect()
    assert classifier() is None


def test_state_of_a_neuron_slice_is_not_taken_for_that_of_a_channel_slice(step):
    optimizer = torch.optim.Adam(step.parameters(), lr=0.01)
    train(step, optimizer, 1)
    step.replan(UpdatePlan((ChannelSet(MIDDLE, "out", (0, 2, 3)),)), optimizer, "keep")
    assert step.live[f"{MIDDLE}.weight"] not in optimizer.state


def test_captured_graph_may_be_passed(model):
    example = torch.zeros(1, 2, *SIZE, dtype=torch.float64)
    assert (
        prepare(model, example, A, graph=capture(model, example)).graph.layers
        == prepare(model, example, A).graph.layers
    )
