"""Velocities against the papers' closed form, the greedy choice against a plain loop, and what is remembered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import TrainingError
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.rng import Pcg32

SIMILARITIES = st.lists(st.floats(-1, 1), min_size=1, max_size=8)
# Sums of some hundred terms of at most one, in float64, in another order.
TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def task(build):
    """Two convolutions with neurons of 4 and 12 weights, one depthwise layer between them."""
    return Task.of(build.chain([
        build.layer("narrow", 4, 6, size=3),
        build.layer("depthwise", 6, 6, 3, groups=6, size=3, kind="depthwise_conv2d"),
        build.layer("wide", 6, 5, size=3),
    ]))  # fmt: skip


@given(SIMILARITIES, st.floats(0.01, 0.99))
def test_velocity_is_that_of_the_closed_form(looks, mu):
    """v_t = phi_t + sum over m >= 1 of (-1)^m (mu^(m-1) + mu^m) phi_(t-m), with phi = 1 before the first look (NEq)."""
    policy, state = make("velocity", mu=mu), State()
    for phi in looks:
        policy.observe(None, state, np.array([3]), np.array([phi]))
    before = [*reversed(looks[:-1]), *[1.0] * 4000]
    past = sum((-1) ** m * (mu ** (m - 1) + mu**m) * phi for m, phi in enumerate(before, start=1))
    assert state.velocity[3] == pytest.approx(looks[-1] + past, abs=TOLERANCE)
    assert state.similarity == {3: looks[-1]}


def test_without_momentum_it_is_the_change(task):
    policy, state = make("velocity", mu=0), State()
    for phi in (0.5, 0.75, 0.75):
        policy.observe(task, state, np.arange(1), np.array([phi]))
    assert state.velocity[0] == 0
    policy.observe(task, state, np.arange(1), np.array([0.5]))
    assert state.velocity[0] == -0.25


def naive(cost, once, layer_of, speed, budget):
    """Greedy by ``speed / weights``, ties in forward order, until the next does not fit."""
    chosen, charged = [], set()
    for unit in sorted(range(len(speed)), key=lambda unit: (-speed[unit], unit)):
        price = cost[unit] + (0 if layer_of[unit] in charged else once[layer_of[unit]])
        if price > budget:
            break
        budget -= price
        charged.add(layer_of[unit])
        chosen.append(unit)
    return sorted(chosen)


@pytest.mark.parametrize("name", ["velocity", "velocity_input"])
@pytest.mark.parametrize("ledger", ["selection", "parameters"])
@pytest.mark.parametrize("seed", range(5))
def test_the_fastest_per_cost_are_trained(task, name, ledger, seed):
    task, policy, state = task.counted_in(ledger), make(name), State()
    table, draws = task.units(policy.axis), np.random.default_rng(seed)
    size = int(draws.integers(policy.sizes(task)[0], policy.sizes(task)[-1]))
    policy.observe(task, state, np.arange(table.n_channels), draws.uniform(0.5, 1, table.n_channels))
    divisor = table.weight if policy.axis == "out" else table.cost
    speed = [abs(state.velocity[unit]) / divisor[table.layer_of[unit]] for unit in range(table.n_channels)]
    pool = set(policy.pool(task, size).tolist())
    outside = [unit for unit in range(table.n_channels) if table.layer_of[unit] not in pool]
    expected = naive(table.channel_cost, table.once, table.layer_of, speed, size) if not outside else None
    found = table.to_ids(policy.draw(task, size, state, Pcg32(0))).tolist()
    assert expected is None or found == expected
    assert not set(found) & set(outside)


def test_a_budget_of_parameters_pays_nothing_for_inputs(task):
    """Neurons of 4, 9 and 6 weights, all equally fast: the lightest first (arXiv 2312.05282)."""
    policy, state, table = make("velocity"), State(), task.counted_in("parameters").neurons
    assert (table.weight.tolist(), table.cost.tolist(), table.once.tolist()) == ([4, 9, 6], [4, 9, 6], [0, 0, 0])
    policy.observe(task, state, np.arange(17), np.full(17, 0.5))
    sets = policy.draw(task.counted_in("parameters"), 6 * 4 + 2 * 6 + 1, state, Pcg32(0))
    assert sets == (("narrow", "out", (0, 1, 2, 3, 4, 5)), ("wide", "out", (0, 1)))


def test_first_draw_is_uniform(task):
    draws = {make("velocity").draw(task, 120, State(), Pcg32(seed)) for seed in range(5)}
    assert len(draws) > 1


def test_neq_trains_everything_then_what_moves(task):
    policy, state = make("neq", eps=0.1, mu=0.5), State()
    size = policy.sizes(task)[0]
    everything = policy.draw(task, size, state, Pcg32(0))
    assert task.neurons.total(task.neurons.channels) == policy.bound(task, size).elements
    assert [len(one.indices) for one in everything] == [6, 6, 5]
    similar = np.ones(17)
    similar[[2, 16]] = 0.875, 0.9375
    policy.observe(task, state, np.arange(17), similar)
    assert policy.draw(task, size, state, Pcg32(0)) == (("narrow", "out", (2,)),)
    similar[16] = 0.5
    policy.observe(task, state, np.arange(17), similar)
    assert policy.draw(task, size, state, Pcg32(0)) == (("wide", "out", (4,)),), "frozen neurons wake up"


@pytest.mark.parametrize(("sketch", "per_neuron"), [(None, 2 * 9 + 5), (3, 2 * 3 + 3)])
def test_what_is_remembered_is_counted(task, sketch, per_neuron):
    """Two images of 4x3x3; outputs of 3x3 at each image, or sketches then and now."""
    policy = make("velocity", images=2, sketch=sketch)
    largest = policy.sizes(task)[-1]
    assert policy.bound(task, largest).state_elements == 2 * 36 + 17 * per_neuron
    inputs = make("velocity_input", images=2, sketch=sketch)
    assert inputs.bound(task, largest).state_elements == 2 * 36 + (4 + 6 + 6) * per_neuron
    assert make("neq", images=2, sketch=sketch).bound(task, 3).state_elements == 2 * 36 + 17 * per_neuron


def test_values_that_are_not_finite_are_refused(task):
    with pytest.raises(TrainingError, match="values are not finite any more"):
        make("velocity").observe(task, State(), np.arange(2), np.array([0.5, np.nan]))
