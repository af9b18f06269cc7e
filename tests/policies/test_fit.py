"""From a budget to draws: the largest size that fits, every draw below the worst case, the worst case below the budget."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune import models
from kilotune.errors import BudgetError, PlanError, RunError
from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import ledger
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.policies import POLICIES, make
from kilotune.policies.base import Task
from kilotune.policies.fit import Selector
from kilotune.policies.fit import plan as make_plan
from kilotune.policies.fitting import WORTH, Fitting
from kilotune.rng import Pcg32
from kilotune.update_plan import Budget
from tests.oracles.zoo import captured_published

GENERAL = [name for name in POLICIES if name != "sparse_update"]
N_DRAWS = 4


def block(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, 3 * inputs, 1, bias=False), nn.BatchNorm2d(3 * inputs), nn.ReLU6(),
        nn.Conv2d(3 * inputs, 3 * inputs, 3, stride, 1, groups=3 * inputs, bias=False), nn.BatchNorm2d(3 * inputs), nn.ReLU6(),
        nn.Conv2d(3 * inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip


@cache
def small():
    """A mobile network of four blocks at 24x24."""
    torch.manual_seed(0)
    blocks = [block(8, 8, 1), block(8, 12, 2), block(12, 12, 1), block(12, 16, 2)]
    stem = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)]
    return capture(nn.Sequential(*stem, *blocks, *head), torch.zeros(1, 3, 24, 24))


@cache
def mcunet():
    return capture(models.create("mcunet_in1", classes=10), torch.zeros(1, 3, 48, 48))


@cache
def tiny():
    """Six layers at 7x7, the first one expensive, with few enough sizes to try them all."""
    torch.manual_seed(0)
    convolutions = [
        nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU6(), nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.ReLU6(), nn.Conv2d(4, 6, 1),
        nn.Conv2d(6, 6, 3, 2, 1, groups=6), nn.ReLU6(), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 5, 1),
    ]  # fmt: skip
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)]
    return capture(nn.Sequential(*convolutions, *head), torch.zeros(1, 2, 7, 7))


@cache
def costs_of_all_sizes(policy, ledger_name):
    """For each layer from which a policy can begin: bytes by size."""
    table = []
    for front in range(len(tiny().body)):
        fitting = Fitting(replace(Task.of(tiny()), front=front), policy, Accounting())
        sizes = fitting.policy.sizes(fitting.task)
        table.append({size: fitting.cost(size, Budget(0, ledger_name)) for size in sizes})
    return table


def limits(graph, name, ledger_name, accounting=None, keep=None):
    """Smallest and largest bytes that the policy can use."""
    fitting = Fitting(Task.of(graph, keep=keep), make(name), accounting or Accounting())
    sizes = fitting.policy.sizes(fitting.task)
    return [fitting.cost(size, Budget(0, ledger_name)) for size in (sizes[0], sizes[-1])]


def check_draws(graph, name, budget, seed, accounting=None, n_draws=N_DRAWS, keep=None):
    selector = Selector.fit(graph, make(name), budget, seed, accounting, keep=keep)
    worst = selector.worst_case
    counted = {"total": worst.total_bytes, "selection": 4 * worst.selection_elements}
    assert counted[budget.ledger] <= budget.nbytes
    rng = np.random.default_rng(seed)
    for _ in range(n_draws):
        plan = selector.draw()
        report = selector.layout.report(plan)
        assert report.total_bytes <= worst.total_bytes
        assert report.selection_elements <= worst.selection_elements
        assert ledger(graph, plan, accounting=accounting).total_bytes == report.total_bytes
        selector.observe(plan, {one.layer: rng.exponential(size=len(one.indices)) for one in plan.channels})
    return selector


@settings(max_examples=60)
@given(
    st.sampled_from(GENERAL), st.sampled_from(["total", "selection"]), st.floats(0, 1.1), st.integers(0, 2**32 - 1),
    st.builds(Accounting, batch=st.integers(1, 2), accumulate=st.booleans(), optimizer=st.sampled_from(["sgd", "adam"])),
)  # fmt: skip
def test_no_draw_exceeds_the_worst_case_nor_the_budget(name, ledger_name, share, seed, accounting):
    least, most = limits(small(), name, ledger_name, accounting)
    check_draws(small(), name, Budget(int(least + share * (most - least)), ledger_name), seed, accounting)


@settings(max_examples=40)
@given(
    st.sampled_from(GENERAL), st.sampled_from(["int8", "prune:0.2", "hosvd:0.8:0.25", "asi:2", "lance:2", "filter:4"]),
    st.sampled_from(["total", "selection"]), st.floats(0, 1.1), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_compressed_inputs_are_spent_at_their_price(name, keep, ledger_name, share, seed):
    least, most = limits(small(), name, ledger_name, keep=keep)
    budget = Budget(int(least + share * (most - least)), ledger_name)
    selector = check_draws(small(), name, budget, seed, keep=keep)
    plan = selector.draw()
    assert {one.layer for one in plan.keeps} <= {*plan.pool, *(chosen.layer for chosen in plan.channels)}


def test_cheaper_inputs_buy_more_channels():
    budget = Budget.parse("20KiB", "selection")
    exact, compressed = (Selector.fit(small(), make("random"), budget, keep=keep).draw() for keep in (None, "int8"))
    chosen = [sum(len(one.indices) for one in plan.channels) for plan in (exact, compressed)]
    assert chosen[1] > 1.5 * chosen[0]


@pytest.mark.parametrize("name", POLICIES)
def test_a_zoo_network(name):
    least, most = limits(mcunet(), name, "total")
    for share in (0, 0.3):
        check_draws(mcunet(), name, Budget(int(least + share * (most - least))), 1, n_draws=2)


@pytest.mark.parametrize("ledger_name", ["total", "selection"])
@pytest.mark.parametrize("name", GENERAL)
def test_the_largest_size_that_fits(name, ledger_name):
    least, most = limits(small(), name, ledger_name)
    budget = Budget((least + most) // 2, ledger_name)
    fitting = Fitting(Task.of(small()), make(name), Accounting())
    sizes = fitting.policy.sizes(fitting.task)
    size = fitting.largest(budget)
    assert size in sizes
    assert fitting.cost(size, budget) <= budget.nbytes
    larger = sizes[sizes.index(size) + 1 :]
    assert not larger or fitting.cost(larger[0], budget) > budget.nbytes


@pytest.mark.parametrize("name", GENERAL)
def test_cost_does_not_fall_within_a_run_of_sizes(name):
    """Bisection finds the largest size only if it does not."""
    fitting = Fitting(Task.of(small()), make(name), Accounting())
    for run in fitting.policy.runs(fitting.task):
        some = run[:: max(1, len(run) // 40)]
        for ledger_name in ("total", "selection"):
            costs = [fitting.cost(size, Budget(0, ledger_name)) for size in some]
            assert costs == sorted(costs)


SEARCHED = [make(name) for name in GENERAL] + [make("medyate", k=1), make("medyate", alpha_opt=0.9), make("trady", k=3)]


@pytest.mark.parametrize("ledger_name", ["total", "selection"])
@pytest.mark.parametrize("policy", SEARCHED, ids=repr)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_search_agrees_with_trying_every_size_and_every_first_layer(policy, ledger_name, data):
    costs = costs_of_all_sizes(policy, ledger_name)
    if ledger_name == "selection":
        costs = costs[:1]
    budget = Budget(data.draw(st.sampled_from(sorted({cost for row in costs for cost in row.values()}))), ledger_name)
    largest = [max((size for size, cost in row.items() if cost <= budget.nbytes), default=0) for row in costs]
    front = next(front for front, size in enumerate(largest) if size >= WORTH * max(largest))
    selector = Selector.fit(tiny(), policy, budget)
    assert (selector.fitting.task.front, selector.size) == (front, largest[front])


@pytest.mark.parametrize(("name", "first_layer"), [("medyate", 0), ("random", 2), ("trady", 0)])
def test_early_layers_are_left_out_where_they_would_leave_the_budget_unused(name, first_layer):
    """Uniform draws would reach the first two layers, whose gradients in flight take the room of what is trained."""
    graph, budget = capture(pretrained_digitnet(), torch.zeros(1, 3, 32, 32)), Budget.parse("120KiB")
    selector = Selector.fit(graph, make(name), budget)
    assert 0.99 * budget.nbytes < selector.worst_case.total_bytes <= budget.nbytes
    assert selector.fitting.task.front == first_layer
    assert selector.first_layer == (graph.body[first_layer].name if first_layer else None)
    left_out = {layer.name for layer in graph.body[:first_layer]}
    assert not left_out.intersection(selector.fitting.pool(selector.fitting.bound(selector.size)))
    assert not left_out.intersection(chosen.layer for chosen in selector.draw().channels)


def test_impossible_budget_says_what_would_do():
    needed, _ = limits(small(), "medyate", "total")
    with pytest.raises(BudgetError) as caught:
        Selector.fit(small(), make("medyate"), Budget.parse("1KiB"))
    message = str(caught.value)
    assert message.startswith(f"policy medyate on Sequential at 3x24x24 needs at least {needed:,} B")
    assert "(total ledger), the budget is 1,024 B (1.0 KiB)" in message
    assert message.endswith("raise the budget or use a smaller input; no policy fits")


def test_policies_that_fit_are_named_and_do_fit():
    least, _ = limits(small(), "medyate", "total")
    budget = Budget(least - 1)
    with pytest.raises(BudgetError) as caught:
        Selector.fit(small(), make("medyate"), budget)
    named = str(caught.value).split("a policy that fits: ")[1].split(";")[0].split(", ")
    assert "classifier" in named
    assert all(Selector.fit(small(), make(name), budget).worst_case.total_bytes <= budget.nbytes for name in named)


@pytest.mark.parametrize(
    ("firmware", "does"),
    [
        ({"accumulate": False}, "updates after each sample"),
        ({"streamed": True}, r"streams its blocks \(--streamed\)"),
        ({"streamed": True, "accumulate": False}, "streams its blocks and updates after each sample"),
    ],
    ids=str,
)
def test_what_firmware_could_do_is_named_and_does_fit(firmware, does):
    """The first that helps; the budget is the least with which it does."""
    graph = captured_published("mobilenet_v2_w0.35")
    least = Fitting(Task.of(graph), make("medyate"), Accounting(**firmware)).least(Budget(0))
    with pytest.raises(BudgetError, match=rf"; a firmware that {does}.* needs at least {least:,} B"):
        Selector.fit(graph, make("medyate"), Budget(least))
    worst = Selector.fit(graph, make("medyate"), Budget(least), accounting=Accounting(**firmware)).worst_case
    assert worst.total_bytes <= least


@pytest.mark.parametrize("name", GENERAL)
def test_same_seed_same_draws(name):
    _, most = limits(small(), name, "total")
    draws = [[check_draws(small(), name, Budget(most), 5).draw() for _ in range(2)] for _ in range(2)]
    assert draws[0] == draws[1]


@pytest.mark.parametrize("name", GENERAL)
def test_saved_state_continues_the_sequence(name):
    least, most = limits(small(), name, "total")
    budget = Budget((least + most) // 2)
    selector = check_draws(small(), name, budget, 3)
    state = json.loads(json.dumps(selector.state()))
    other = Selector.fit(small(), make(name), budget, seed=99)
    other.load_state(state)
    assert [selector.draw() for _ in range(3)] == [other.draw() for _ in range(3)]


def test_damaged_and_foreign_state():
    selector = Selector.fit(small(), make("medyate"), Budget.parse("1MiB"))
    state = selector.state()
    with pytest.raises(RunError, match="saved state of policy medyate is damaged"):
        selector.load_state({**state, "memory": {"draws": "many"}})
    with pytest.raises(RunError, match="damaged"):
        selector.load_state({"size": 1})
    for other in ({"size": -1}, {"front": 3}):
        with pytest.raises(RunError, match="use the same budget"):
            selector.load_state({**state, **other})
    assert selector.state() == state


def test_plans_of_a_pool_say_so():
    """What later draws may train is in the plan, so that memory is laid out for it; a fixed choice needs no pool."""
    least, most = limits(small(), "random", "selection")
    dynamic = make_plan(small(), "random", (3 * least + most) // 4, "selection")
    drawn = {chosen.layer for chosen in dynamic.channels}
    assert drawn < set(dynamic.pool) == {layer.name for layer in small().body}
    assert make_plan(small(), "last", "1MiB").pool == ()


def test_policy_state_is_charged():
    selector = Selector.fit(small(), make("medyate"), Budget.parse("1MiB"))
    plan = selector.draw()
    assert plan.state_bytes > 0
    assert selector.layout.report(plan).by_kind["policy"] == plan.state_bytes


def test_plan_function():
    first = make_plan(small(), "trady", "60KiB", seed=3)
    assert first == Selector.fit(small(), make("trady"), Budget.parse("60KiB"), 3).draw()
    assert first != make_plan(small(), "trady", "60KiB", seed=4)
    assert make_plan(small(), "trady", 40_000, ledger="selection") != first
    assert ledger(small(), first).total_bytes <= 60 * 1024
    with pytest.raises(PlanError, match="no policy 'best'"):
        make_plan(small(), "best")
    with pytest.raises(PlanError, match="has no option colour"):
        make_plan(small(), "trady", colour="red")


def test_a_network_that_is_only_a_classifier():
    graph = capture(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.zeros(1, 3, 2, 2))
    plan = make_plan(graph, "classifier", "1KiB")
    assert (plan.channels, plan.biases, plan.classifier) == ((), (), True)
    for name in set(GENERAL) - {"classifier", "full"}:
        with pytest.raises(
            BudgetError, match=rf"policy {name} on Sequential at 3x2x2 .* a policy that fits: .*classifier"
        ):
            make_plan(graph, name, "1KiB")


def test_dynamic_policies_redraw():
    selector = Selector.fit(small(), make("random"), Budget.parse("40KiB"))
    assert selector.dynamic
    assert selector.draw() != selector.draw()
    assert not Selector.fit(small(), make("full"), Budget.parse("1MiB")).dynamic
    assert replace(selector, rng=Pcg32(1)).worst_case == selector.worst_case


@pytest.mark.parametrize("ledger_name", ["total", "selection"])
@pytest.mark.parametrize("name", GENERAL)
def test_the_least_budget_is_that_of_all_beginnings(name, ledger_name):
    """Against every front and every run, one after the other; just below it the advice says so."""
    fitting = Fitting(Task.of(small()), make(name), Accounting())
    fronts = [
        replace(fitting, task=replace(fitting.task, front=front)) for front in fitting.policy.fronts(fitting.task)
    ]
    costs = [one.cost(run[0], Budget(0, ledger_name)) for one in fronts for run in one.policy.runs(one.task) if run]
    assert fitting.least(Budget(0, ledger_name)) == min(costs)
    with pytest.raises(BudgetError, match=f"needs at least {min(costs):,} B"):
        Selector.fit(small(), make(name), Budget(min(costs) - 1, ledger_name))


def test_the_advice_names_exactly_what_fits():
    budget = Budget(Fitting(Task.of(small()), make("dgsu"), Accounting()).least(Budget(0)) - 1)
    fit = [
        name for name in GENERAL if Fitting(Task.of(small()), make(name), Accounting()).least(Budget(0)) < budget.nbytes
    ]
    with pytest.raises(BudgetError, match=f"a policy that fits: {', '.join(fit)}$"):
        Selector.fit(small(), make("full"), budget)


def test_nothing_is_packed_where_nothing_fits():
    fitting = Fitting(Task.of(small()), make("medyate"), Accounting())
    assert fitting.largest(Budget(64)) is None
    assert not any("arena" in vars(layout) for layout in fitting._layouts.values())
