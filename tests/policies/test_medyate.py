"""MeDyate: number of layers, and what is remembered from one draw to the next."""

from dataclasses import replace

import numpy as np
import pytest

from kilotune.errors import TrainingError
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.published import BUDGETS
from kilotune.policies.ranking import structural
from kilotune.policies.spend import spend
from kilotune.rng import Pcg32


@pytest.fixture(scope="module")
def task(mobilenet, figure9):
    """MobileNetV2-w0.35 with layers in the LaRa order estimated from TraDy's figure 9a."""
    return Task.of(mobilenet, replace(structural(mobilenet), lara=tuple(53 - figure9[2])))


@pytest.fixture(scope="module")
def small(build):
    """Two layers of 6 channels that cost the same."""
    return Task.of(build.chain([build.layer("a", 6, 4), build.layer("b", 6, 4)]))


def test_pool_sizes_are_those_of_the_paper(task):
    """M_20, M_35 and M_40 of the estimated order (192.4k, 406k and 565.8k are implied by the paper)."""
    rows = make("medyate").layers(task)
    cost = np.cumsum((task.table.cost * task.table.channels)[rows])
    assert [int(cost[k - 1]) // 100 for k in (20, 35, 40)] == [1948, 4054, 5659]


@pytest.mark.parametrize(("tier", "k"), [(0, 15), (1, 30), (2, 38)])
def test_number_of_layers_follows_the_budget(task, tier, k):
    budget = BUDGETS["mobilenet_v2_w0.35"][tier]
    rows = make("medyate").pool(task, budget)
    cost = (task.table.cost * task.table.channels)[rows]
    assert len(rows) == k
    assert budget / cost.sum() <= 0.2 < budget / cost[:-1].sum()
    state_elements = make("medyate").bound(task, budget).state_elements
    assert state_elements == task.table.channels[rows].sum()


def test_all_layers_where_none_is_large_enough(task):
    assert len(make("medyate").pool(task, task.graph.selection_total_elements // 2)) == 52
    assert len(make("medyate", k=4).pool(task, 27_946)) == 4


def test_memory_from_draw_to_draw(small):
    """Epoch 1 uniform; epoch 2 unseen channels count as the largest norm; later only trained channels change."""
    policy, state, rng, oracle = make("medyate", alpha_opt=1), State(), Pcg32(7), Pcg32(7)
    ids, cost, size = np.arange(12), small.table.channel_cost, 4 * int(small.table.cost[0])
    first = small.table.to_ids(policy.draw(small, size, state, rng))
    pool = small.table.ids(int(policy.pool(small, size)[0]))
    assert sorted(spend(shuffled(pool, oracle), cost.__getitem__, size)) == first.tolist()
    assert state.norms == {}
    policy.observe(small, state, first, np.array([1.0, 2.0, 8.0, 4.0]))

    known = dict(zip(first.tolist(), [1.0, 2.0, 8.0, 4.0], strict=True))
    expected = {int(channel): known.get(int(channel), 8.0) for channel in pool}
    second = small.table.to_ids(policy.draw(small, size, state, rng))
    assert state.norms == expected
    weights = np.array([expected[channel] for channel in pool.tolist()])
    assert sorted(spend(weighted(pool, weights, oracle), cost.__getitem__, size)) == second.tolist()

    policy.observe(small, state, second, np.full(len(second), 100.0))
    assert state.norms == expected | dict.fromkeys(second.tolist(), 100.0)
    policy.draw(small, size, state, rng)
    assert state.norms == expected | dict.fromkeys(second.tolist(), 100.0)
    assert set(state.norms) <= set(ids.tolist())


def test_without_norms_draws_stay_uniform(small):
    policy, state = make("medyate", alpha_opt=0.5), State()
    size = 3 * int(small.table.cost[0])
    policy.draw(small, size, state, Pcg32(0))
    uniform = policy.draw(small, size, State(), Pcg32(9))
    assert policy.draw(small, size, state, Pcg32(9)) == uniform


def test_channels_of_large_norm_are_drawn_more_often(small):
    policy, rng = make("medyate", alpha_opt=0.05), Pcg32(8)
    size, norms = int(small.table.cost[0]), np.array([3.0] + [1.0] * 7 + [2.0] + [0.0] * 3)
    state, counts = State(norms=dict(enumerate(norms.tolist()))), np.zeros(12)
    for _ in range(2000):
        counts[small.table.to_ids(policy.draw(small, size, state, rng))] += 1
    share = norms / norms.sum()
    assert np.all(np.abs(counts / 2000 - share) <= 5 * np.sqrt(share * (1 - share) / 2000) + 12 / 65535)


def test_boosted_first_draw(build):
    graph = build.chain([build.layer("a", 10, 4), build.layer("b", 10, 4)])
    task = Task.of(graph, replace(structural(graph), lara=(4.0, 1.0)))
    policy, rng, rows = make("medyate", boosted=True, alpha_opt=0.05), Pcg32(2), []
    for _ in range(1000):
        rows += [one.layer for one in policy.draw(task, int(task.table.cost[0]), State(), rng)]
    assert abs(rows.count("a") - 800) < 5 * np.sqrt(1000 * 0.8 * 0.2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_norms_that_are_not_finite_are_refused(small, bad):
    with pytest.raises(TrainingError, match="a gradient norm of b is not finite"):
        make("medyate").observe(small, State(), np.array([3, 7]), np.array([1.0, bad]))
