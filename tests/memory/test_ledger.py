"""The two ledgers: sums, slots, batches, and worst cases that no selection exceeds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune.errors import PlanError
from kilotune.graph.capture import capture
from kilotune.graph.keeping import reads_image
from kilotune.memory.accounting import OPTIMIZER_SLOTS, Accounting
from kilotune.memory.cost import ChannelTable
from kilotune.memory.ledger import Layout, ledger
from kilotune.update_plan import ChannelSet, Keep, UpdatePlan
from tests.oracles.dense import everything
from tests.oracles.modules import captured
from tests.oracles.networks import RandomNetwork, some_of, wirings
from tests.oracles.zoo import NETWORKS, captured_network, captured_published

ACCOUNTINGS = st.builds(
    Accounting, batch=st.integers(1, 3), accumulate=st.booleans(), optimizer=st.sampled_from(sorted(OPTIMIZER_SLOTS))
)


def check_sums(report):
    assert sum(report.by_kind.values()) == report.total_bytes
    assert all(nbytes >= 0 for nbytes in report.by_kind.values())
    assert report.total_bytes >= report.lower_bound_bytes > 0
    assert sum(report.by_layer.values()) == report.saved_bytes


@settings(max_examples=25)
@given(st.data(), wirings, ACCOUNTINGS)
def test_no_draw_exceeds_the_worst_case(data, wiring, accounting):
    graph = capture(RandomNetwork(wiring), torch.zeros(1, 2, 6, 6, dtype=torch.float64))
    body = graph.body
    pool = tuple(layer.name for layer in body if data.draw(st.booleans()))
    biases = tuple(layer.name for layer in body if data.draw(st.booleans()))
    layout = Layout.of(graph, pool, biases, data.draw(st.booleans()), accounting)
    for _ in range(3):
        sets = tuple(
            ChannelSet(layer.name, "in", some_of(data.draw, layer.in_channels))
            for layer in body
            if layer.name in pool and data.draw(st.booleans())
        )
        plan = UpdatePlan(sets, biases, layout.timeline.step_graph.plan.classifier, pool, state_bytes=12)
        report = layout.report(plan)
        check_sums(report)
        caps = np.zeros(len(body), dtype=np.int64)
        for row, layer in enumerate(body):
            caps[row] = max((len(chosen.indices) for chosen in sets if chosen.layer == layer.name), default=0)
        assert layout.worst(caps, report.selection_elements, 12).nbytes >= report.total_bytes
        everything_in_pool = np.array([layer.in_channels if layer.name in pool else 0 for layer in body])
        assert layout.worst(everything_in_pool, report.selection_elements, 12).nbytes >= report.total_bytes


WAYS = [
    "int8",
    "int4",
    "prune:0.3",
    "pattern:2",
    "filter:2",
    "svd:0.8:0.3",
    "hosvd:0.8:0.3",
    "asi:2",
    "asi:9x2x9x3",
    "lance:2",
]


@settings(max_examples=60)
@given(st.data(), wirings, ACCOUNTINGS, st.sampled_from(["in", "out"]))
def test_no_draw_of_compressed_inputs_exceeds_the_worst_case(data, wiring, accounting, axis):
    """Channels or neurons, any way of keeping; what a layer is charged once comes with its first unit."""
    graph = capture(RandomNetwork(wiring), torch.zeros(1, 2, 6, 6, dtype=torch.float64))
    body = [layer for layer in graph.body if not reads_image(graph, layer)]
    pool = tuple(layer.name for layer in body if data.draw(st.booleans()))
    keeps = tuple(Keep(name, data.draw(st.sampled_from(WAYS))) for name in pool if data.draw(st.booleans()))
    keeps += (Keep("head", data.draw(st.sampled_from(["int8", "asi:2", "lance:2"]))),)
    layout = Layout.of(graph, pool, (), True, accounting, keeps)
    table = ChannelTable.of(graph, axis, keeps)
    for _ in range(3):
        drawn = [layer for layer in body if layer.name in pool and data.draw(st.booleans())]
        sets = tuple(ChannelSet(one.name, axis, some_of(data.draw, n_units(one, axis))) for one in drawn)
        report = layout.report(UpdatePlan(sets, (), True, pool, 12, keeps))
        check_sums(report)
        counts = np.zeros(len(graph.body), dtype=np.int64)
        for chosen in sets:
            counts[table.row(chosen.layer)] = len(chosen.indices)
        caps = np.array([n_units(layer, axis) if layer.name in pool else 0 for layer in graph.body])
        spent = table.total(counts)
        assert report.selection_elements <= spent
        assert layout.worst(caps, spent, 12, axis).nbytes >= report.total_bytes


def n_units(layer, axis):
    return {"in": layer.in_channels, "out": layer.out_channels}[axis]


def test_what_stays_from_step_to_step_is_counted():
    """ASI's factors beside the stack, LANCE's for the whole pool."""
    graph = captured("conv norm")
    chosen = (ChannelSet("part.0", "in", (0, 3)),)
    exact = ledger(graph, UpdatePlan(chosen))
    asi = ledger(graph, UpdatePlan(chosen, keeps=(Keep("part.0", "asi:1"),)))
    assert asi.by_kind["keeping"] == 4 * (2 + 6 + 6)
    assert asi.activation_elements == 1 + 2 + 6 + 6
    assert asi.by_layer["part.0"] - exact.by_layer["part.0"] == 4 * (1 - 2 * 36)
    pool = ("stem", "part.0")
    lance = Layout.of(graph, pool, (), True, Accounting(), (Keep("part.0", "lance:1"),))
    assert lance.report(UpdatePlan(pool=pool)).by_kind["keeping"] == 4 * (8 + 6 + 6)


@pytest.mark.parametrize("name", NETWORKS)
def test_reports_of_networks_add_up(torchvision_models, name):
    pytest.importorskip("timm")
    graph = captured_network(name)
    for plan in (UpdatePlan(classifier=False), UpdatePlan(), everything(graph)):
        check_sums(ledger(graph, plan))
    full = ledger(graph, everything(graph))
    assert full.selection_elements == graph.selection_total_elements
    assert full.weight_elements == sum(layer.weight_elements for layer in graph.body)


@pytest.mark.parametrize(
    ("name", "total"),
    [("mobilenet_v2_w0.35_mix", 1_252_320), ("mcunet_in1", 1_309_808), ("proxylessnas_w0.3", 1_162_032)],
)
def test_published_totals(name, total):
    graph = captured_published(name)
    report = ledger(graph, everything(graph))
    assert (report.selection_elements, report.selection_bytes) == (total, 4 * total)
    check_sums(report)


def test_every_optimizer_slot_is_counted():
    graph = captured("conv norm")
    plan = everything(graph)
    trained = sum(layer.weight_elements + layer.out_channels for layer in graph.layers)
    totals = {name: ledger(graph, plan, accounting=Accounting(optimizer=name)).total_bytes for name in OPTIMIZER_SLOTS}
    assert all(totals[name] - totals["sgd"] == 4 * slots * trained for name, slots in OPTIMIZER_SLOTS.items())
    assert totals["adam"] > totals["momentum"] > totals["sgd"]


def test_summed_gradients_are_counted():
    graph = captured("conv norm")
    plan = UpdatePlan((ChannelSet("part.0", "in", (0, 1)),), ("part.0",))
    report = ledger(graph, plan)
    n_weights, n_head = 2 * 6 * 9, graph.layer["head"].weight_elements + 5
    kinds = {"overlay": n_weights, "bias": 6, "classifier": n_head}
    for kind, elements in kinds.items():
        assert report.by_kind[kind] == report.by_kind[f"{kind}_gradient"] == 4 * elements
    alone = ledger(graph, plan, accounting=Accounting(accumulate=False))
    assert alone.by_kind["overlay_gradient"] == 0
    assert alone.total_bytes < report.total_bytes


def test_batch():
    graph = captured("nn.ReLU")
    plan = everything(graph)
    one, three = ledger(graph, plan), ledger(graph, plan, batch=3)
    assert one == ledger(graph, plan, accounting=Accounting(batch=1))
    assert three.accounting.batch == 3
    assert three.selection_elements == one.selection_elements, "the papers count one example"
    for kind in ("overlay", "overlay_gradient", "bias", "classifier"):
        assert three.by_kind[kind] == one.by_kind[kind]
    in_flight = [sum(r.by_kind[kind] for kind in ("input", "activation", "gradient", "kept")) for r in (one, three)]
    assert in_flight[1] == 3 * in_flight[0]


def test_pool_and_state_are_part_of_the_step():
    """A plan that other draws may follow is laid out for all of them."""
    graph = captured("conv norm")
    chosen = (ChannelSet("part.0", "in", (0,)),)
    alone, pooled = UpdatePlan(chosen), UpdatePlan(chosen, pool=("stem", "part.0"), state_bytes=100)
    assert ledger(graph, pooled).by_kind["policy"] == 100
    assert ledger(graph, pooled).total_bytes >= ledger(graph, alone).total_bytes + 100
    assert ledger(graph, pooled).saved_bytes == ledger(graph, alone).saved_bytes


def test_neurons_pay_for_the_whole_input():
    graph = captured("conv strided")
    report = ledger(graph, UpdatePlan((ChannelSet("part", "out", (1, 4)),)))
    assert (report.weight_elements, report.activation_elements) == (2 * 8 * 9, 8 * 36)
    depthwise = ledger(captured("conv depthwise"), UpdatePlan((ChannelSet("part", "out", (1, 4)),)))
    assert (depthwise.weight_elements, depthwise.activation_elements) == (2 * 9, 2 * 36)


def test_smaller_numbers_take_fewer_bytes():
    graph = captured("conv norm")
    plan = everything(graph)
    half = ledger(graph, plan, accounting=Accounting(dtype="float16"))
    assert half.selection_bytes * 2 == ledger(graph, plan).selection_bytes
    assert half.by_kind["overlay"] * 2 == ledger(graph, plan).by_kind["overlay"]


def test_unknown_optimizer():
    with pytest.raises(PlanError, match="optimizer 'lion' is unknown; choose one of sgd, momentum"):
        Accounting(optimizer="lion")


def test_gradients_that_do_not_stay_are_there_at_their_step():
    """Without accumulation the classifier's gradient lives at its own backward step only."""
    graph = capture(nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 40)), torch.zeros(1, 64))
    once = Accounting(accumulate=False)
    report, stays = ledger(graph, UpdatePlan(), accounting=once), ledger(graph, UpdatePlan())
    classifier_bytes = 4 * (50 * 40 + 40)
    assert stays.total_bytes - report.total_bytes < classifier_bytes
    assert report.total_bytes >= 2 * classifier_bytes
    assert report.peak_step == "backward linear_1"
