"""TraDy against the published layer set and use of memory."""

from dataclasses import replace

import numpy as np
import pytest

from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.policies.published import BUDGETS
from kilotune.policies.ranking import structural
from kilotune.rng import Pcg32

# Conv indices of MobileNetV2-w0.35 in order of RGN (TraDy, figure 9).
PUBLISHED_TOP_35 = [
    43, 46, 49, 44, 47, 41, 50, 40, 38, 35, 34, 37, 32, 31, 25, 26, 23, 22, 29, 20, 28, 51, 48, 45, 42, 39, 36, 33, 14,
    30, 13, 17, 24, 16, 27,
]  # fmt: skip


@pytest.fixture(scope="module")
def task(mobilenet, figure9):
    """MobileNetV2-w0.35 with layers in the published order."""
    return Task.of(mobilenet, replace(structural(mobilenet), rgn=tuple(53 - figure9[1])))


def test_published_layer_set(task):
    rows = make("trady").layers(task)
    assert rows.tolist() == PUBLISHED_TOP_35
    assert task.table.channels[rows].sum() == 5248
    pool = make("trady").sizes(task)[-1]
    assert pool == 565_424
    assert [round(budget / pool, 3) for budget in BUDGETS["mobilenet_v2_w0.35"]] == [0.049, 0.118, 0.166]


@pytest.mark.parametrize(("network", "k"), [("mobilenet", 35), ("mcunet", 27), ("proxyless", 43)])
def test_published_k(request, network, k):
    assert len(make("trady").layers(Task.of(request.getfixturevalue(network)))) == k


def test_share_rule_for_other_networks(build):
    graph = build.chain([build.layer(name, 3, 4) for name in "abcd"])
    task = Task.of(graph, replace(structural(graph), rgn=(1.0, 10.0, 87.0, 2.0)))
    assert make("trady").layers(task).tolist() == [2, 1]
    assert make("trady", share=0.98).layers(task).tolist() == [2, 1, 3]
    assert make("trady", share=1.0).layers(task).tolist() == [2, 1, 3, 0]
    assert make("trady", k=1).layers(task).tolist() == [2]
    assert make("trady", k=9).layers(task).tolist() == [2, 1, 3, 0]


def test_share_overrides_the_published_k(mobilenet, figure9):
    """The strict rule gives 33 layers with the paper's costs (notes, section 2.3; depthwise as in test_ranking)."""
    sums, _, _ = figure9
    weight = [
        1 if layer.groups > 1 and layer.name != "conv1" else layer.channel_weight_elements for layer in mobilenet.body
    ]
    cost = np.array(weight) + [layer.channel_input_elements for layer in mobilenet.body]
    task = Task.of(mobilenet, replace(structural(mobilenet), rgn=tuple(sums / cost)))
    assert len(make("trady", share=0.97).layers(task)) == 33


def test_use_of_the_smallest_budget(task):
    """Notes, validation target 2: weights and inputs per draw, averaged over 1000 epochs, to the hundred."""
    table, state, rng = task.table, State(), Pcg32(0)
    rows = [
        table.layer_of[table.to_ids(make("trady").draw(task, BUDGETS["mobilenet_v2_w0.35"][0], state, rng))]
        for _ in range(1000)
    ]
    weight, activation = (np.mean([kind[row].sum() for row in rows]) for kind in (table.weight, table.activation))
    assert 13_500 <= round(weight, -2) <= 14_000
    assert 13_800 <= round(activation, -2) <= 14_300
    assert 27_800 < weight + activation < 27_900


def test_unseen_share_decays_geometrically(task):
    """Notes, validation target 6: (1 - alpha)^e of the pool's memory is unseen after e epochs, within 2 % of it."""
    table, policy, state, rng = task.table, make("trady"), State(), Pcg32(1)
    pool, budget = policy.sizes(task)[-1], BUDGETS["mobilenet_v2_w0.35"][2]
    unseen = np.isin(table.layer_of, policy.layers(task))
    for epoch in range(1, 15):
        unseen[table.to_ids(policy.draw(task, budget, state, rng))] = False
        assert table.channel_cost[unseen].sum() / pool == pytest.approx((1 - budget / pool) ** epoch, abs=0.02)


def test_boosted_prefers_layers_of_high_lara(build):
    graph = build.chain([build.layer("a", 10, 4), build.layer("b", 10, 4)])
    task = Task.of(graph, replace(structural(graph), lara=(9.0, 1.0)))
    size = int(task.table.cost[0])
    rng, rows = Pcg32(2), []
    for _ in range(1000):
        rows += [one.layer for one in make("trady", boosted=True).draw(task, size, State(), rng)]
    assert len(rows) == 1000
    assert abs(rows.count("a") - 900) < 5 * np.sqrt(1000 * 0.9 * 0.1)


def test_static_version_keeps_its_first_draw(task):
    policy, state, rng = make("topk_random_static"), State(), Pcg32(3)
    first = policy.draw(task, 27_946, state, rng)
    assert first == make("trady").draw(task, 27_946, State(), Pcg32(3))
    assert policy.draw(task, 27_946, state, rng) == first
