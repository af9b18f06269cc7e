"""The tables of a network's policies: the C of the device draws from them as Python draws, epoch after epoch."""

from functools import cache

import numpy as np
import pytest
import torch

from kilotune.codegen.drawing import Drawing, find_drawing
from kilotune.errors import ExportError
from kilotune.graph.capture import capture
from kilotune.memory.cost import ChannelTable
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.update_plan import Budget
from tests.runtime.conftest import policy_library  # noqa: F401
from tests.runtime.test_policy import Device

SEED = 5
N_DRAWS = 30


@cache
def graph():
    model = pretrained_digitnet()
    return capture(model, torch.zeros(1, 3, 32, 32))


def selector(name: str, budget: str = "160KiB", **options: object) -> Selector:
    return Selector.fit(graph(), make(name, **options), Budget.parse(budget), SEED)


def device(library, drawing: Drawing) -> Device:
    """The C side, given nothing but the tables."""
    n_rows = len(drawing.layers)
    table = ChannelTable(
        drawing.layers, drawing.channels, drawing.cost, np.zeros(n_rows, int), np.zeros(1), np.zeros(n_rows, int)
    )
    return Device(library, table, drawing.size, SEED)


@pytest.mark.parametrize("name", ["random", "trady", "medyate"])
def test_the_device_draws_what_python_draws(policy_library, name):  # noqa: F811
    python, draws = selector(name), np.random.default_rng(0)
    drawing = find_drawing(python, SEED)
    c = device(policy_library, drawing)
    rows = [python.fitting.task.table.row(layer) for layer in drawing.layers]
    arguments = [c.norms] if drawing.function == "medyate" else []
    most = most_weights = 0
    for _ in range(N_DRAWS):
        plan = python.draw()
        expected = {chosen.layer: chosen.indices for chosen in plan.channels}
        ids = c.draw(drawing.function, *arguments)
        most = max(most, len(ids))
        most_weights = max(most_weights, int(c.count @ python.fitting.task.table.weight[rows]))
        cuts = np.cumsum(c.count)
        found = [tuple(part.tolist()) for part in np.split(c.index[: cuts[-1]], cuts[:-1])]
        assert {layer: part for layer, part in zip(drawing.layers, found, strict=True) if part} == expected
        norms = {layer: draws.random(len(part)).astype(np.float32) for layer, part in expected.items()}
        python.observe(plan, norms)
        c.norms[ids] = np.concatenate(list(norms.values()))
    assert 0 < most <= drawing.max_channels
    assert 0 < most_weights <= drawing.max_weights
    assert drawing.state_bytes <= python.fitting.state_bytes(python.fitting.bound(python.size))


@pytest.mark.parametrize(
    "options",
    [
        {"traversal": "cyclic"},
        {"traversal": "independent"},
        {"traversal": "strided"},
        {"traversal": "strided", "turns": 4},
        {"traversal": "cyclic", "turns": 3},
        {"traversal": "strided", "turns": 30},
    ],
    ids=str,
)
def test_dgsu(policy_library, options):  # noqa: F811
    python = selector("dgsu", "256KiB", **options)
    drawing = find_drawing(python, SEED)
    c = device(policy_library, drawing)
    assert drawing.redraw == "step"
    rows = [python.fitting.task.table.row(layer) for layer in drawing.layers]
    sizes = []
    for number in range(N_DRAWS):
        counts = drawing.counts[number % drawing.n_turns].astype(np.uint16)
        expected = {chosen.layer: list(chosen.indices) for chosen in python.draw().channels}
        c.draw(drawing.function, *([counts] if drawing.function == "anew" else [counts, c.order, c.cursor]))
        cuts = np.cumsum(c.count)
        found = [part.tolist() for part in np.split(c.index[: cuts[-1]], cuts[:-1])]
        assert {layer: part for layer, part in zip(drawing.layers, found, strict=True) if part} == expected
        assert c.count.tolist() == counts.tolist()
        sizes.append((int(c.count.sum()), int(c.count @ python.fitting.task.table.weight[rows])))
    assert tuple(np.max(sizes, axis=0)) == (drawing.max_channels, drawing.max_weights)
    assert (c.rng.state, c.rng.increment) == python.rng.state()
    assert drawing.state_bytes <= python.fitting.state_bytes(python.fitting.bound(python.size))


@pytest.mark.parametrize("name", ["full", "static_random", "topk_random_static"])
def test_a_policy_that_chooses_once_draws_nothing_on_the_device(name):
    assert find_drawing(selector(name, "1MiB"), SEED) is None


def test_boosted_draws_are_refused():
    with pytest.raises(
        ExportError, match=r"policy trady, as it is set, cannot draw on a device; those that can are random"
    ):
        find_drawing(selector("trady", boosted=True), SEED)


@pytest.mark.parametrize("options", [{"turns": 2, "traversal": "independent"}, {"traversal": "largest"}])
def test_draws_of_dgsu_that_the_device_does_not_know_are_refused(options):
    with pytest.raises(ExportError, match="its traversal cyclic, strided, or independent without turns"):
        find_drawing(selector("dgsu", "1MiB", **options), SEED)


def test_draws_of_neurons_are_refused():
    with pytest.raises(ExportError, match=r"policy random_neurons, as it is set, cannot draw on a device"):
        find_drawing(selector("random_neurons"), SEED)


def test_draws_of_inputs_kept_in_low_rank_are_refused():
    low_rank = Selector.fit(graph(), make("trady"), Budget.parse("1MiB"), SEED, keep="hosvd:0.8:0.5")
    with pytest.raises(ExportError, match=r"no way to keep inputs as hosvd:0.8:0.5; of low rank it keeps none"):
        find_drawing(low_rank, SEED)


def test_too_many_channels_are_refused():
    one = np.array([70_000])
    with pytest.raises(ExportError, match="at most 65,535 channels, this policy chooses from 70,000"):
        Drawing("uniform", ("a",), one, one, 1, None, "epoch", 1, 1, 0)
