"""Oracles: the published orders on known norms, how often they look, and what they forget."""

import numpy as np
import pytest

from kilotune.errors import TrainingError
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.spend import Prices, spend
from kilotune.rng import Pcg32

DYNAMIC, STATIC = ("det_raw", "det_rgn", "prob_raw"), ("static_det_raw", "static_det_rgn")


@pytest.fixture(scope="module")
def task(build):
    """Two layers of 6 channels: those of "cheap" cost 68 elements, those of "dear" 72."""
    return Task.of(build.chain([build.layer("cheap", 6, 4), build.layer("dear", 6, 8)]))


def draw(task, name, norms, n_channels=4, seed=0, **options):
    """Ids of the first draw after ``norms`` (12,) were told."""
    policy, state = make(name, layer_set="all", **options), State()
    policy.observe(task, state, np.arange(12), norms)
    return task.table.to_ids(policy.draw(task, n_channels * 72, state, Pcg32(seed))).tolist()


def test_det_raw_takes_the_largest_norms(task):
    norms = np.array([5, 1, 1, 1, 1, 1, 1, 9, 1, 1, 7, 6.0])
    assert draw(task, "det_raw", norms) == draw(task, "static_det_raw", norms) == [0, 7, 10, 11]


def test_det_rgn_divides_by_the_cost(task):
    """Equal gradients: the cheaper layer first. A gradient larger by more than 72 / 68 makes up for the cost."""
    assert draw(task, "det_rgn", np.ones(12)) == draw(task, "static_det_rgn", np.ones(12)) == [0, 1, 2, 3]
    norms = np.ones(12)
    norms[9], norms[11] = 1.05 * 72 / 68, 0.95 * 72 / 68
    assert draw(task, "det_rgn", norms) == [0, 1, 2, 9]


def test_prob_raw_draws_in_proportion(task):
    norms = np.random.default_rng(0).uniform(0, 1, 12)
    expected = spend(weighted(np.arange(12), norms, Pcg32(5)), Prices(task.table), 4 * 72)
    assert draw(task, "prob_raw", norms, seed=5) == sorted(expected.tolist())
    rng, counts = Pcg32(6), np.zeros(12)
    policy = make("prob_raw", layer_set="all")
    for _ in range(2000):
        state = State(norms=dict(enumerate(norms.tolist())))
        counts[task.table.to_ids(policy.draw(task, 72, state, rng))] += 1
    share = norms / norms.sum()
    # Five standard deviations of a share of 2000 draws, and the rounding of weights to integers.
    assert np.all(np.abs(counts / 2000 - share) <= 5 * np.sqrt(share * (1 - share) / 2000) + 12 / 65535)


@pytest.mark.parametrize("name", DYNAMIC + STATIC)
def test_without_a_gradient_the_order_is_uniform_and_replaced_by_the_first_pass(task, name):
    policy, state, rng = make(name, layer_set="all"), State(), Pcg32(1)
    blind = task.table.to_ids(policy.draw(task, 4 * 72, state, rng))
    assert sorted(blind) == sorted(spend(shuffled(np.arange(12), Pcg32(1)), Prices(task.table), 4 * 72))
    norms = np.zeros(12)
    norms[8:] = 1
    policy.observe(task, state, np.arange(12), norms)
    assert task.table.to_ids(policy.draw(task, 4 * 72, state, rng)).tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("name", STATIC)
def test_static_oracles_keep_what_they_saw_first(task, name):
    policy, state, rng = make(name, layer_set="all"), State(), Pcg32(1)
    policy.observe(task, state, np.arange(12), np.arange(12.0))
    first = policy.draw(task, 4 * 72, state, rng)
    assert all(policy.draw(task, 4 * 72, state, rng) == first for _ in range(3))


@pytest.mark.parametrize("name", DYNAMIC + STATIC)
def test_norms_are_forgotten_after_the_draw(task, name):
    policy, state = make(name), State()
    policy.observe(task, state, np.arange(12), np.arange(12.0))
    policy.draw(task, 4 * 72, state, Pcg32(0))
    assert state.norms == {}
    assert policy.bound(task, 4 * 72).state_elements == 0


def test_layer_sets_are_those_of_the_tables():
    sets = {name: make(name).layer_set for name in DYNAMIC + STATIC}
    assert sets == {
        "det_raw": "lara", "static_det_raw": "lara", "prob_raw": "lara", "det_rgn": "all", "static_det_rgn": "all",
    }  # fmt: skip


def test_norms_that_are_not_finite_are_refused(task):
    with pytest.raises(TrainingError, match="a gradient norm of dear is not finite"):
        draw(task, "det_raw", np.array([1.0] * 7 + [np.nan] * 5))
