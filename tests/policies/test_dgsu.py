"""Dynamic Gradient Sparse Update: ratios by depth, traversal of channels."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.rng import Pcg32


def ratios(policy, task, size):
    return np.array(policy.bound(task, size).caps) / task.table.channels


def test_front_is_frozen_and_ratios_fall_with_depth(build):
    task = Task.of(build.chain([build.layer(f"conv{i}", 100, 100) for i in range(10)]))
    policy = make("dgsu", frozen=0.2, n_stages=4)
    assert ratios(policy, task, 75).tolist() == [0, 0, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03]
    assert ratios(make("dgsu", frozen=0, n_stages=1), task, 500).tolist() == [0.5] * 10


def test_largest_size_trains_the_first_stage_whole(mobilenet):
    task, policy = Task.of(mobilenet), make("dgsu")
    sizes = policy.sizes(task)
    assert sizes[0] == 1
    assert 0.95 < ratios(policy, task, sizes[-1]).max() <= 1


@pytest.mark.parametrize("size", [20, 100])
def test_size_is_thousandths_of_the_weights(mobilenet, size):
    """Whole channels and at least one per layer come on top: at most one channel of each of the 22 trained layers."""
    task, policy = Task.of(mobilenet), make("dgsu")
    weights = np.array(policy.bound(task, size).caps) @ task.table.weight
    wanted = size / 1000 * (task.table.weight @ task.table.channels)
    assert wanted <= weights <= wanted + task.table.weight[30:].sum()
    assert np.flatnonzero(policy.bound(task, size).caps).tolist() == list(range(30, 52))


@pytest.mark.parametrize("traversal", ["cyclic", "strided"])
@given(size=st.integers(1, 400), seed=st.integers(0, 2**32))
def test_walks_are_fair(build, traversal, size, seed):
    """Whatever the number of draws, the channels of a layer have been trained equally often, give or take one."""
    task = Task.of(build.chain([build.layer(f"conv{i}", 5 + i, 6 + i) for i in range(4)]))
    policy = make("dgsu", frozen=0.25, n_stages=2, traversal=traversal)
    state, rng, counts = State(), Pcg32(seed), Counter()
    bound = policy.bound(task, min(size, policy.sizes(task)[-1]))
    for _ in range(12):
        ids = task.table.to_ids(policy.draw(task, min(size, policy.sizes(task)[-1]), state, rng)).tolist()
        assert len(set(ids)) == len(ids) == sum(bound.caps)
        counts.update(ids)
    for row in np.flatnonzero(bound.caps):
        visits = [counts[channel] for channel in task.table.ids(row).tolist()]
        assert max(visits) - min(visits) <= 1
    orders = [len(order) for order in state.order.values()]
    assert bound.state_elements == (sum(orders) if traversal == "cyclic" else 2 * len(orders))


def test_independent_draws_keep_no_state(mcunet):
    task, policy, state, rng = Task.of(mcunet), make("dgsu", traversal="independent"), State(), Pcg32(0)
    first, second = (policy.draw(task, 20, state, rng) for _ in range(2))
    assert first != second
    assert state == State(draws=2)
    assert policy.bound(task, 20).state_elements == 0


def test_the_largest_channels_are_always_the_same(mcunet):
    task, policy, state, rng = Task.of(mcunet), make("dgsu", traversal="largest"), State(), Pcg32(0)
    first, second = (policy.draw(task, 20, state, rng) for _ in range(2))
    assert first == second
    for chosen in first:
        norms = np.array(mcunet.layer[chosen.layer].input_norms)
        assert norms[list(chosen.indices)].min() >= np.delete(norms, chosen.indices).max(initial=0)


def test_layers_take_turns(mobilenet):
    """Three turns together train the same layers as one draw without turns, each about as many weights as that."""
    task, together = Task.of(mobilenet), make("dgsu")
    policy, state, rng = make("dgsu", turns=3), State(), Pcg32(0)
    draws = [policy.draw(task, 20, state, rng) for _ in range(6)]
    names = [[chosen.layer for chosen in draw] for draw in draws]
    assert names[:3] == names[3:]
    everything = together.draw(task, 20, State(), Pcg32(0))
    assert sorted(names[0] + names[1] + names[2]) == sorted(chosen.layer for chosen in everything)
    costs = [task.table.channel_cost[task.table.to_ids(draw)].sum() for draw in draws[:3]]
    assert max(costs) == policy.bound(task, 20).elements
    weights = [task.table.weight[task.table.layer_of[task.table.to_ids(draw)]].sum() for draw in draws[:3]]
    wanted = 20 / 1000 * (task.table.weight @ task.table.channels)
    assert wanted <= np.mean(weights) <= wanted + task.table.weight[30:].sum() / 3


def test_more_turns_than_layers_repeat_the_first(build):
    task = Task.of(build.chain([build.layer(f"conv{i}", 4, 4) for i in range(2)]))
    policy, state, rng = make("dgsu", frozen=0, turns=5), State(), Pcg32(0)
    assert all(policy.draw(task, policy.sizes(task)[0], state, rng) for _ in range(5))
