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


@given(st.integers(1, 400), st.integers(0, 2**32))
def test_cyclic_traversal_is_fair(build, size, seed):
    """Whatever the number of draws, the channels of a layer have been trained equally often, give or take one."""
    task = Task.of(build.chain([build.layer(f"conv{i}", 5 + i, 6 + i) for i in range(4)]))
    policy, state, rng, counts = make("dgsu", frozen=0.25, n_stages=2), State(), Pcg32(seed), Counter()
    bound = policy.bound(task, min(size, policy.sizes(task)[-1]))
    for _ in range(12):
        ids = task.table.to_ids(policy.draw(task, min(size, policy.sizes(task)[-1]), state, rng)).tolist()
        assert len(set(ids)) == len(ids) == sum(bound.caps)
        counts.update(ids)
    for row in np.flatnonzero(bound.caps):
        visits = [counts[channel] for channel in task.table.ids(row).tolist()]
        assert max(visits) - min(visits) <= 1
    assert bound.state_elements == sum(len(order) for order in state.order.values())


def test_independent_draws_keep_no_state(mcunet):
    task, policy, state, rng = Task.of(mcunet), make("dgsu", traversal="independent"), State(), Pcg32(0)
    first, second = (policy.draw(task, 20, state, rng) for _ in range(2))
    assert first != second
    assert state == State(draws=2)
    assert policy.bound(task, 20).state_elements == 0
