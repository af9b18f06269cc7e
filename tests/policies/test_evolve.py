"""The evolutionary search against exhaustive search, and its budget, seed and resumption."""

from itertools import islice, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune.errors import BudgetError
from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.policies import make
from kilotune.policies.base import Task
from kilotune.policies.contributions import CLASSIFIER, RATIOS, Contributions, bias_part, weight_part
from kilotune.policies.evolve import Evolution, Problem, evolve
from kilotune.policies.fitting import Fitting
from kilotune.policies.ranking import fingerprint
from kilotune.update_plan import Budget

GENERATIONS = 30


@pytest.fixture(scope="module")
def tiny_graph():
    """Three convolutions, captured, so that the total ledger can count."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 6, 1)]
    return capture(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)), torch.zeros(1, 2, 8, 8)
    )


def contributions(graph, seed=0, n_bias=None):
    """Made-up gains, some of them negative."""
    rng, n_layers = np.random.default_rng(seed), len(graph.body)
    n_bias = n_layers if n_bias is None else n_bias
    values = {CLASSIFIER: -2.0} | {bias_part(k): -2 + 0.1 * k for k in range(1, n_bias + 1)}
    for row in range(n_layers - n_bias, n_layers):
        gains = np.sort(rng.normal(0.5, 0.5, len(RATIOS)))
        values |= {weight_part(row, r): values[bias_part(n_bias)] + g for r, g in zip(RATIOS, gains, strict=True)}
    return Contributions(graph.model, fingerprint(graph), Task.of(graph).table.names, "loss", n_bias, "{}", values)


def problem(graph, budget, n_bias=None, seed=0):
    fitting = Fitting(Task.of(graph), make("sparse_update"), Accounting())
    return Problem(fitting, contributions(graph, seed), budget, n_bias)


def best(problem, seed=0, generations=GENERATIONS, size=32):
    return list(islice(evolve(problem, seed, size), generations))[-1].population[0]


def exhaustive(problem):
    """The largest gain of all genomes that fit."""
    n_layers = len(problem.options)
    genomes = (
        (k, *choices) for k in problem.bias_counts() for choices in product(*([0, *options] for options in problem.options))
        if not any(choices[:n_layers - k])
    )  # fmt: skip
    return max(problem.gain(genome) for genome in genomes if problem.fits(genome))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100), st.floats(0.05, 0.6))
def test_finds_what_exhaustive_search_finds(build, seed, share):
    layers = [build.layer("a", 3, 8, 3, size=8), build.layer("b", 8, 8, 3, groups=8, size=6, kind="depthwise_conv2d"),
              build.layer("c", 8, 16, size=6), build.layer("d", 16, 12, size=4)]  # fmt: skip
    graph = build.chain(layers)
    everything = 4 * sum(layer.weight_elements + layer.input_elements for layer in layers)
    task = problem(graph, Budget(int(share * everything), "selection"), seed=seed)
    assert task.gain(best(task)) == pytest.approx(exhaustive(task))


def test_is_near_the_bound_on_a_real_network(mcunet):
    """No selection gains more than the fractional knapsack over the convex hull of each layer's choices."""
    task = problem(mcunet, Budget(63_744, "selection"))
    table, gains = task.fitting.task.table, task.contributions.weight_gains()
    steps = []
    for row in range(len(table.names)):
        points = [(4 * int(table.channels[row] * ratio) * int(table.cost[row]), gain)
                  for ratio, gain in zip((0, *RATIOS), gains[row], strict=True)]  # fmt: skip
        place = points[0]
        while further := [p for p in points if p[0] > place[0] and p[1] > place[1]]:
            nearest = max(further, key=lambda p: (p[1] - place[1]) / (p[0] - place[0]))
            steps.append((nearest[0] - place[0], nearest[1] - place[1]))
            place = nearest
    room, bound = task.budget.nbytes, task.contributions.bias_gains().max()
    for cost, gain in sorted(steps, key=lambda step: -step[1] / step[0]):
        taken = min(1, room / cost)
        room, bound = room - taken * cost, bound + taken * gain
    found = best(task, generations=60, size=64)
    assert task.fits(found)
    assert 0.95 * bound < task.gain(found) <= bound


def test_every_genome_fits_and_trains_only_behind_its_first_bias(mcunet):
    task = problem(mcunet, Budget(63_744, "selection"))
    for generation in islice(evolve(task, 1, 16), 5):
        gains = [task.gain(genome) for genome in generation.population]
        assert gains == sorted(gains, reverse=True)
        for genome in generation.population:
            assert task.fits(genome)
            assert not any(genome[1 : len(genome) - genome[0]])


def test_the_best_never_gets_worse_and_depends_on_the_seed_alone(mcunet):
    task = problem(mcunet, Budget(63_744, "selection"))
    runs = [list(islice(evolve(task, seed, 16), 8)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    gains = [task.gain(generation.population[0]) for generation in runs[0]]
    assert gains == sorted(gains)


def test_goes_on_where_it_was_broken_off(mcunet):
    task = problem(mcunet, Budget(63_744, "selection"))
    whole = list(islice(evolve(task, 3, 16), 8))
    assert list(islice(evolve(task, 3, 16, start=whole[3]), 4)) == whole[4:]
    assert isinstance(whole[3], Evolution)


def test_the_number_of_biases_can_be_fixed(mcunet):
    task = problem(mcunet, Budget(63_744, "selection"), n_bias=7)
    assert all(genome[0] == 7 for genome in list(islice(evolve(task, 0, 16), 3))[-1].population)


def test_a_budget_too_small_for_the_biases_is_refused(tiny_graph):
    with pytest.raises(
        BudgetError, match=r"2 biases and the classifier of Sequential need [\d,]+ B .* \(total ledger\)"
    ):
        problem(tiny_graph, Budget(100), n_bias=2)
    with pytest.raises(BudgetError, match="0 biases and the classifier"):
        problem(tiny_graph, Budget(100))


def test_the_total_ledger_counts_how_deep_gradients_go(tiny_graph):
    fitting = Fitting(Task.of(tiny_graph), make("sparse_update"), Accounting())
    smallest = problem(tiny_graph, Budget(1 << 30))
    least, most = smallest.cost(smallest.genome(0)), fitting.count(make("full").bound(fitting.task, 9), "total")
    task = problem(tiny_graph, Budget((least + most) // 2))
    found = best(task, generations=5)
    assert task.cost(found) <= task.budget.nbytes
    assert any(found)
