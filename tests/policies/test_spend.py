"""Walking an order until the budget is spent."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import BudgetError
from kilotune.policies.base import State, Task
from kilotune.policies.spend import Prices, affordable, cut, spend
from kilotune.policies.uniform import Random
from kilotune.rng import Pcg32


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(0, 400), st.randoms(use_true_random=False))
def test_spend_is_the_longest_prefix_that_fits(cost, budget, random):
    order = list(range(len(cost)))
    random.shuffle(order)
    prefixes = [order[:n] for n in range(len(order) + 1) if sum(cost[i] for i in order[:n]) <= budget]
    assert spend(order, cost.__getitem__, budget).tolist() == prefixes[-1]


def test_spend_reads_one_channel_too_many_at_most():
    read = []
    order = (read.append(channel) or channel for channel in range(10))
    assert spend(order, lambda unit: 4, 11).tolist() == [0, 1]
    assert read == [0, 1, 2]


def test_spend_does_not_go_on_after_the_first_that_does_not_fit():
    assert spend([0, 1, 2], [2, 9, 2].__getitem__, 5).tolist() == [0]


def test_affordable_names_the_cheapest_channel(build):
    task = Task.of(build.chain([build.layer("wide", 4, 8, size=9), build.layer("narrow", 8, 3, size=5)]))
    assert task.table.cost.tolist() == [89, 28]
    assert affordable(task, np.array([0, 1]), 28).tolist() == [1]
    assert affordable(task, np.array([1, 0]), 89).tolist() == [1, 0]
    assert affordable(replace(task, front=1), np.array([1, 0]), 89).tolist() == [1]
    with pytest.raises(BudgetError, match=r"27 elements cannot hold a single channel.*in narrow, costs 28 elements"):
        affordable(task, np.array([0, 1]), 27)


@given(st.integers(0, 20), st.integers(0, 20), st.sets(st.integers(0, 25)))
def test_cut_keeps_every_size_and_begins_anew_at_each_place(start, n_sizes, places):
    sizes = range(start, start + n_sizes)
    runs = cut(sizes, places)
    assert [size for run in runs for size in run] == list(sizes)
    assert {run[0] for run in runs if run} == ({start} | places).intersection(sizes)


def test_what_is_charged_once_comes_with_the_first_unit_of_a_layer(build):
    task = Task.of(build.chain([build.layer(name, 4, 6, size=3) for name in "abc"]))
    assert task.neurons.once.tolist() == [36, 36, 36]
    assert task.neurons.cost.tolist() == [4, 4, 4]
    rows = np.arange(3)
    assert affordable(task, rows, 40, "out").tolist() == [0, 1, 2]
    with pytest.raises(BudgetError, match=r"39 elements cannot hold a single neuron.*in a, costs 40 elements"):
        affordable(task, rows, 39, "out")
    order = [0, 7, 1, 6, 12]  # a, b, a, b, c
    for budget, n_units in ((39, 0), (40, 1), (79, 1), (80, 2), (88, 4), (127, 4), (128, 5)):
        assert len(spend(order, Prices(task.neurons), budget)) == n_units


def test_the_front_is_never_trained(build):
    """As an option of the policy, beside what a budget leaves out."""
    task = Task.of(build.chain([build.layer(name, 4, 6, size=3) for name in "abcd"]))
    policy = Random(front=2)
    assert policy.fronts(task) == [0, 3]
    for size in (policy.sizes(task)[0], policy.sizes(task)[-1]):
        assert policy.bound(task, size).caps[:2] == (0, 0)
    assert {one.layer for one in policy.draw(task, policy.sizes(task)[-1], State(), Pcg32(0))} == {"c", "d"}
    assert not policy.sizes(replace(task, front=4))
    assert not Random(front=9).sizes(task)
