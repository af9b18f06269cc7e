"""The bound of a selection's bytes, against all selections."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kilotune.memory.knapsack import Knapsack


@given(st.data())
def test_knapsack_is_never_below_the_best_selection(data):
    n = data.draw(st.integers(1, 4))
    numbers = st.lists(st.integers(1, 9), min_size=n, max_size=n).map(np.array)
    value, cost, caps = data.draw(numbers), data.draw(numbers), data.draw(numbers) % 4
    budget = data.draw(st.integers(0, 60))
    bound = int(Knapsack(value[None], cost).most(caps, budget)[0])
    selections = [np.array(chosen) for chosen in product(*(range(cap + 1) for cap in caps))]
    best = max(int(chosen @ value) for chosen in selections if chosen @ cost <= budget)
    assert bound >= best
    assert bound <= best + value.max(), "at most one channel more than fits"


@given(st.data())
def test_steps_are_bounded_one_by_one(data):
    """Whatever the steps beside it, equal ones among them, a step has the bound that it has alone."""
    n_columns, n_steps = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    numbers = st.lists(st.integers(1, 99), min_size=n_columns, max_size=n_columns).map(np.array)
    cost, caps, budget = data.draw(numbers), data.draw(numbers), data.draw(st.integers(0, 2000))
    values = np.array([data.draw(numbers) for _ in range(n_steps)])[
        data.draw(st.lists(st.integers(0, n_steps - 1), min_size=1, max_size=9))
    ]
    alone = [int(Knapsack(value[None], cost).most(caps, budget)[0]) for value in values]
    assert Knapsack(values, cost).most(caps, budget).tolist() == alone
