"""What holds for every policy: all draws stay within the bound, and names and options are checked."""

from dataclasses import fields

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.errors import BudgetError, PlanError
from kilotune.policies import POLICIES, make
from kilotune.policies.base import Elements, State, Task
from kilotune.policies.spend import SpendingPolicy
from kilotune.rng import Pcg32

POLICIES_OF_ANY_NETWORK = [
    make(name) for name in POLICIES if name != "sparse_update"
] + [
    make("trady", boosted=True),
    make("trady", k=2),
    make("trady", share=0.5),
    make("medyate", boosted=True),
    make("medyate", alpha_opt=0.9),
    make("medyate", k=1),
    make("dgsu", traversal="independent"),
    make("dgsu", traversal="strided", turns=3),
    make("dgsu", traversal="largest"),
    make("dgsu", frozen=0, n_stages=2, decay=0.9),
    make("bias", k=2),
    make("last", k=2),
    make("trady", layer_set="lara"),
    make("medyate", layer_set="rgn"),
    make("det_raw", layer_set="rgn", k=2),
    make("prob_raw", layer_set="all"),
    make("det_rgn", layer_set="lara", alpha_opt=0.9),
    make("velocity", layer_set="lara", sketch=4),
    make("velocity_input", layer_set="rgn", k=2),
    make("random_neurons", layer_set="rgn", k=1),
]  # fmt: skip
DYNAMIC = {
    "random",
    "trady",
    "medyate",
    "dgsu",
    "det_raw",
    "det_rgn",
    "prob_raw",
    "velocity",
    "velocity_input",
    "neq",
    "random_neurons",
}


def counts(table, sets):
    """Units of each layer that a draw takes (layers,)."""
    taken = np.zeros_like(table.channels)
    for chosen in sets:
        assert chosen.axis == table.axis
        taken[table.row(chosen.layer)] = len(chosen.indices)
    return taken


def check(task, policy, bound, sets):
    """One draw is within its bound, in all ledgers."""
    taken, costs = counts(task.units(policy.axis), sets), task.costs(policy.axis)
    assert np.all(taken <= bound.caps)
    assert np.all(bound.caps <= costs.channels)
    assert task.units(policy.axis).total(taken) <= bound.elements
    worst = Elements.worst(task, bound, policy.axis)
    assert taken @ costs.weight <= worst.parameters
    assert costs.total(taken) <= worst.selection


@pytest.mark.parametrize("policy", POLICIES_OF_ANY_NETWORK, ids=repr)
@settings(max_examples=40)
@given(data=st.data())
def test_every_draw_stays_within_its_bound(policy, networks, data):
    task = Task.of(data.draw(networks)).counted_in(data.draw(st.sampled_from(["selection", "parameters"])))
    sizes = policy.sizes(task)
    assert sizes
    size = data.draw(st.sampled_from([sizes[0], sizes[-1]]) | st.integers(sizes[0], sizes[-1]))
    bound = policy.bound(task, size)
    if isinstance(policy, SpendingPolicy):
        assert bound.elements <= size
    state, rng = State(), Pcg32(data.draw(st.integers(0, 2**64 - 1)))
    draws = [policy.draw(task, size, state, rng)]
    for _ in range(4):
        if policy.observes == "norms":
            ids = task.table.to_ids(draws[-1])
            policy.observe(task, state, ids, np.array(data.draw(norms(len(ids)))))
        elif policy.observes != "nothing" and policy.redraw != "never":
            n_channels = task.units(policy.axis).n_channels
            policy.observe(task, state, np.arange(n_channels), np.array(data.draw(norms(n_channels))))
        state = msgspec.json.decode(msgspec.json.encode(state), type=State)
        draws.append(policy.draw(task, size, state, rng))
    for sets in draws:
        check(task, policy, bound, sets)
    assert state.draws == len(draws)
    assert any(bound.caps) == bool(draws[0])
    if policy.redraw == "never":
        assert all(sets == draws[0] for sets in draws)


def norms(n):
    """Values, zeros among them."""
    return st.lists(st.floats(0, 1e3, width=32), min_size=n, max_size=n)


@pytest.mark.parametrize("policy", POLICIES_OF_ANY_NETWORK, ids=repr)
def test_bounds_are_reached_in_elements(policy, mcunet):
    """Bounds of spending policies are the budget, those of the others are exact."""
    task = Task.of(mcunet)
    sizes, table = policy.sizes(task), task.units(policy.axis)
    size = sizes[len(sizes) // 2]
    state, rng = State(), Pcg32(1)
    spent = max(  # dgsu's layers may take turns: its bound is that of the fullest
        table.total(counts(table, policy.draw(task, size, state, rng))) for _ in range(getattr(policy, "turns", 1))
    )
    bound = policy.bound(task, size)
    if isinstance(policy, SpendingPolicy):
        assert bound.elements - (table.once + table.cost).max() < spent <= bound.elements
    else:
        assert spent == bound.elements


@pytest.mark.parametrize("policy", [make(name) for name in ("random", "static_random", "trady", "medyate")], ids=repr)
def test_too_small_a_budget_is_refused(policy, mcunet):
    task = Task.of(mcunet)
    smallest = policy.sizes(task)[0]
    assert policy.draw(task, smallest, State(), Pcg32(0))
    for attempt in (policy.bound, lambda task, size: policy.draw(task, size, State(), Pcg32(0))):
        with pytest.raises(BudgetError, match=f"cannot hold a single channel: .* costs {smallest:,} elements"):
            attempt(task, smallest - 1)


@pytest.mark.parametrize("name", POLICIES)
def test_rows_of_the_table(name, mcunet):
    policy = make(name)
    assert policy.name == name
    assert (policy.redraw != "never") == (name in DYNAMIC)
    assert type(policy)() == policy
    assert hash(policy) == hash(make(name))
    assert len(policy.sizes(Task.of(mcunet))) >= 1


@pytest.mark.parametrize("name", sorted(DYNAMIC - {"neq"}))
def test_same_seed_same_draws(name, mcunet):
    policy, task = make(name), Task.of(mcunet)
    size = policy.sizes(task)[len(policy.sizes(task)) // 20]

    def draws(seed):
        state, rng = State(), Pcg32(seed)
        return [policy.draw(task, size, state, rng) for _ in range(3)]

    assert draws(1) == draws(1) != draws(2)
    assert draws(1)[0] != draws(1)[1]


def test_options_may_be_text():
    assert make("medyate", alpha_opt="0.5", k="3", boosted="true") == make("medyate", alpha_opt=0.5, k=3, boosted=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {}, "there is no policy 'adam'; choose from full, classifier, bias"),
        ("full", {"k": 3}, "policy full has no option k; it has none"),
        (
            "medyate",
            {"alpha": 0.1},
            "policy medyate has no option alpha; it has biases, front, layer_set, k, share, alpha_opt, boosted",
        ),
        ("medyate", {"alpha_opt": 1.5}, r"policy medyate cannot take these options: .*alpha_opt"),
        ("medyate", {"k": "many"}, r"policy medyate cannot take these options: .*k"),
        ("trady", {"share": 0}, r"policy trady cannot take these options: .*share"),
        ("dgsu", {"traversal": "spiral"}, r"policy dgsu cannot take these options: .*traversal"),
        ("sparse_update", {"channels": "last"}, r"policy sparse_update cannot take these options: .*channels"),
    ],
)
def test_bad_names_and_options(name, options, message):
    with pytest.raises(PlanError, match=message):
        make(name, **options)


def test_every_option_is_documented():
    for policy in POLICIES.values():
        text = " ".join(parent.__doc__ or "" for parent in policy.__mro__)
        assert all(f"{option.name}:" in text for option in fields(policy))
