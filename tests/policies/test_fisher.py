"""TinyTrain's order, from its formula."""

import numpy as np
import pytest

from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.rng import Pcg32


@pytest.fixture(scope="module")
def task(build):
    layers = [
        build.layer("wide", 4, 8, 3, size=8),
        build.layer("small", 8, 2, size=8),
        build.layer("late", 2, 6, size=4),
    ]
    return Task.of(build.chain(layers))


def test_layers_by_potential_over_price_then_channels_by_information(task):
    values = np.array([9, 1, 8, 2, 0.3, 0.1, 0.2, 0.4, 0, 0, 0, 0, 0.05, 0.06])
    body = task.graph.body
    weights, macs = np.array([layer.weight_elements for layer in body]), np.array([layer.macs for layer in body])
    potential = np.array([values[task.table.ids(row)].sum() for row in range(3)])
    score = potential / (weights / weights.max() * macs / macs.max())
    assert score.argsort()[::-1].tolist() == [1, 2, 0]  # By potential alone it would be 0, 1, 2.
    policy, ids = make("fisher"), np.arange(14)
    order = list(policy.by_norm(task, ids, values, Pcg32(0)))
    assert order == [7, 4, 6, 5, 8, 9, 10, 11, 13, 12, 0, 2, 3, 1]


def test_draws_the_longest_prefix_and_keeps_it(task):
    policy, state = make("fisher"), State()
    policy.observe(task, state, np.arange(14), np.arange(14.0))
    size = int(task.table.cost[2] * 2 + task.table.cost[1])
    first = policy.draw(task, size, state, Pcg32(0))
    assert [(one.layer, one.indices) for one in first] == [("small", (7,)), ("late", (0, 1))]
    assert policy.draw(task, size, state, Pcg32(9)) == first
