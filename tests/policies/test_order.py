"""Orders against slow, obvious implementations, and their distributions."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.policies.order import WEIGHT_SCALE, descending, quantised, shuffled, weighted
from kilotune.rng import Pcg32

seeds = st.integers(0, 2**64 - 1)
weight_lists = st.lists(st.floats(0, 1e6, width=32), max_size=40)


def slow_shuffled(ids, rng):
    """Exchange the next place with a random one from there on."""
    order = list(ids)
    for place in range(len(order)):
        other = place + rng.below(len(order) - place)
        order[place], order[other] = order[other], order[place]
    return order


def slow_weighted(ids, weights, rng):
    """A wheel of fortune, turned again without the one just drawn."""
    left = list(zip(ids, quantised(np.array(weights)).tolist(), strict=True))
    order = []
    while left:
        turn = rng.below(sum(weight for _, weight in left))
        place = 0
        while turn >= left[place][1]:
            turn -= left[place][1]
            place += 1
        order.append(left.pop(place)[0])
    return order


@given(seeds, st.lists(st.integers(0, 10**6), unique=True, max_size=40))
def test_shuffled_equals_oracle(seed, ids):
    assert list(shuffled(np.array(ids, dtype=np.int64), Pcg32(seed))) == slow_shuffled(ids, Pcg32(seed))


@given(seeds, weight_lists)
def test_weighted_equals_oracle(seed, weights):
    ids = [10 * place for place in range(len(weights))]
    rng, oracle = Pcg32(seed), Pcg32(seed)
    assert list(weighted(ids, np.array(weights), rng)) == slow_weighted(ids, weights, oracle)
    assert rng.state() == oracle.state()


@given(seeds, weight_lists, st.integers(0, 40))
def test_stopping_early_costs_only_what_was_taken(seed, weights, n_taken):
    """Nothing is drawn ahead of need: the generator stands where the oracle's stands after as many draws."""
    ids, rng, oracle = list(range(len(weights))), Pcg32(seed), Pcg32(seed)
    taken = list(islice(weighted(ids, np.array(weights), rng), n_taken))
    assert len(taken) == min(n_taken, len(ids))
    integers = quantised(np.array(weights))
    for channel in taken:
        oracle.below(int(integers.sum()))
        integers[channel] = 0
    assert rng.state() == oracle.state()


def test_shuffled_is_uniform():
    """Each of 6 orders of 3 within 5 standard deviations of 1,000 out of 6,000."""
    rng = Pcg32(5)
    counts = Counter(tuple(shuffled([4, 5, 6], rng)) for _ in range(6000))
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts.values()) < 5 * (6000 * 5 / 36) ** 0.5


def test_weighted_draws_in_proportion():
    """First and second place of successive sampling: p_i, then sum over j of p_j p_i / (1 - p_j); 5 deviations."""
    share = np.array([0.1, 0.2, 0.3, 0.4])
    second = np.array([sum(share[j] * share[i] / (1 - share[j]) for j in range(4) if j != i) for i in range(4)])
    rng = Pcg32(6)
    orders = np.array([list(weighted(range(4), share, rng)) for _ in range(5000)])
    for place, expected in ((0, share), (1, second)):
        found = np.bincount(orders[:, place], minlength=4) / len(orders)
        assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / len(orders)))


def test_draws_are_fixed_for_ever():
    """Firmware makes these draws too: a change here is a change of format."""
    assert list(shuffled(range(8), Pcg32(42, 54))) == [7, 5, 4, 3, 0, 6, 2, 1]
    assert list(weighted(range(8), np.arange(8.0), Pcg32(42, 54))) == [3, 7, 6, 5, 4, 2, 1, 0]


@given(weight_lists)
def test_quantised_keeps_proportions(weights):
    """Within half a unit of the exact value, and a float32 rounding of each of two operations, but at least 1."""
    integers = quantised(np.array(weights))
    assert len(integers) == len(weights)
    if max(weights, default=0) == 0:
        assert np.all(integers == 1)
        return
    exact = np.array(weights) / max(weights) * WEIGHT_SCALE
    assert np.all(np.abs(integers - np.maximum(1, exact)) <= 0.5 + 2 * WEIGHT_SCALE * 2.0**-24)
    assert integers.max() == WEIGHT_SCALE


def test_quantised_rounds_half_to_even_in_float32():
    assert quantised(np.array([65535, 0.5, 1.5, 2.5, 3.5, 0])).tolist() == [65535, 1, 2, 2, 4, 1]


@pytest.mark.parametrize("n", [65_537, 200_000])
def test_sum_of_weights_fits_32_bits(n):
    assert quantised(np.ones(n)).sum() < 2**32


@given(st.lists(st.integers(0, 3), max_size=20))
def test_descending_is_stable(scores):
    expected = [i for score in (3, 2, 1, 0) for i, found in enumerate(scores) if found == score]
    assert descending(range(len(scores)), np.array(scores)).tolist() == expected
