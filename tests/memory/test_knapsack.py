"""The bound of a selection's bytes, against all selections."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kilotune.memory.knapsack import knapsack


@given(st.data())
def test_knapsack_is_never_below_the_best_selection(data):
    n = data.draw(st.integers(1, 4))
    numbers = st.lists(st.integers(1, 9), min_size=n, max_size=n).map(np.array)
    value, cost, caps = data.draw(numbers), data.draw(numbers), data.draw(numbers) % 4
    budget = data.draw(st.integers(0, 60))
    bound = int(knapsack(value[None], cost, caps, budget)[0])
    selections = [np.array(chosen) for chosen in product(*(range(cap + 1) for cap in caps))]
    best = max(int(chosen @ value) for chosen in selections if chosen @ cost <= budget)
    assert bound >= best
    assert bound <= best + value.max(), "at most one channel more than fits"
