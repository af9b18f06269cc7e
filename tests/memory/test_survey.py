"""The bytes of an oracle's pass: dense back-propagation without biases, classifier, overlay and optimiser."""

import pytest
import torch

from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_bytes
from kilotune.memory.survey import survey_report, whole_layers
from kilotune.models.digitnet import digitnet
from kilotune.ops.prepare import prepare


@pytest.fixture(scope="module")
def network():
    """(model, example, graph)."""
    model, example = digitnet().eval(), torch.zeros(1, 3, 32, 32)
    return model, example, capture(model, example)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_kinds(network, optimizer):
    _, _, graph = network
    layers = tuple(layer.name for layer in graph.body)
    report = survey_report(graph, layers, Accounting(optimizer=optimizer))
    n_weights, n_channels = (
        sum(getattr(layer, name) for layer in graph.body) for name in ("weight_elements", "in_channels")
    )
    assert report.weight_elements == n_weights
    assert report.selection_elements == graph.selection_total_elements
    kinds = report.by_kind
    assert kinds["overlay_gradient"] == 4 * n_weights
    assert kinds["overlay"] == kinds["overlay_optimizer"] == kinds["bias"] == kinds["classifier"] == 0
    assert kinds["policy"] == 4 * n_channels
    assert sum(kinds.values()) == report.total_bytes
    training = ledger(graph, whole_layers(graph, layers), accounting=Accounting(optimizer=optimizer))
    slots = {"sgd": 0, "adam": 2}[optimizer]
    assert training.total_bytes - report.total_bytes == 4 * n_weights * (1 + slots) - 4 * n_channels


def test_some_layers_only(network):
    _, _, graph = network
    last = (graph.body[-1].name,)
    some, all_layers = (
        survey_report(graph, layers, Accounting()) for layers in (last, tuple(one.name for one in graph.body))
    )
    assert some.total_bytes < all_layers.total_bytes
    assert some.by_layer.keys() <= all_layers.by_layer.keys()


def test_kept_bytes_are_those_of_autograd(network):
    model, example, graph = network
    layers = tuple(layer.name for layer in graph.body)
    step = prepare(model, example, whole_layers(graph, layers), graph)
    x, y = torch.randn_like(example), torch.zeros(1, dtype=torch.int64)
    assert saved_bytes(step, x, y) == survey_report(graph, layers, Accounting()).saved_bytes
