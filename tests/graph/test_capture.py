"""Capture: networks of others unmodified, the user's module left alone, one message for all that is not supported."""

import logging
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune.errors import ShapeError, UnsupportedError
from kilotune.graph.capture import capture
from kilotune.graph.node import Conv2d, Linear
from kilotune.ops.prepare import prepare
from kilotune.update_plan import UpdatePlan
from tests.oracles.networks import batch
from tests.oracles.zoo import NETWORKS, build_network, captured_network, captured_published, input_shape

# Float32: sums in another order with batch norm folded into the weights, 1e-7 each, through at most fifty layers; logits
# are of the order of one.
LOGITS_TOLERANCE = 2e-4
IMAGE = torch.zeros(1, 3, 8, 8)


class Head(nn.Module):
    """A linear layer on the flat input; the base of the models below."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 5)


def model_of(function):
    """A module whose forward pass is ``function(head, x)``."""
    return type("Model", (Head,), {"forward": lambda self, x: function(self.head, x)})()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_import_unmodified(torchvision_models, name):
    pytest.importorskip("timm")
    model, graph = build_network(name), captured_network(name)
    x, _ = batch(input_shape(name), 2, 10)
    step = prepare(model, None, UpdatePlan(), graph).eval()
    with torch.no_grad():
        expected = model(x)
        assert float((step(x) - expected).abs().max()) < LOGITS_TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_the_modules_with_a_weight(torchvision_models, name):
    pytest.importorskip("timm")
    model, graph = build_network(name), captured_network(name)
    parameters = dict(model.named_parameters())
    matrices = {key for key, p in parameters.items() if key.endswith("weight") and p.dim() in (2, 4)}
    weights = {layer.name: graph.node[layer.node].op.weight for layer in graph.layers}
    assert set(weights.values()) == matrices
    assert all(weight.removesuffix(".weight") == layer for layer, weight in weights.items())
    for layer in graph.layers:
        weight = parameters[weights[layer.name]]
        assert layer.weight_elements == weight.numel()
        assert len(layer.input_norms) == layer.in_channels
    assert graph.classifier == graph.layers[-1].name
    assert graph.layer[graph.classifier].out_channels == 10


def test_attention_projections_are_layers(torchvision_models):
    names = [layer.name for layer in captured_network("vision_transformer").layers]
    assert [name for name in names if "encoder_layer_0" in name] == [
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
        "encoder.layers.encoder_layer_0.self_attention.out_proj",
        "encoder.layers.encoder_layer_0.mlp.0",
        "encoder.layers.encoder_layer_0.mlp.3",
    ]


@pytest.mark.parametrize(
    ("name", "total", "n_layers"),
    [("mobilenet_v2_w0.35_mix", 1_252_320, 52), ("mcunet_in1", 1_309_808, 42), ("proxylessnas_w0.3", 1_162_032, 61)],
)
def test_published_totals_at_128(name, total, n_layers):
    graph = captured_published(name)
    assert graph.selection_total_elements == total
    assert len(graph.body) == n_layers


def test_the_module_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 5))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    capture(model, torch.randn(4, 3, 8, 8))
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_module_is_left_as_it_was_after_a_failure():
    model = model_of(lambda head, x: head(x.view(1, -1)))
    with pytest.raises(ShapeError):
        capture(model, IMAGE)
    assert all(module.training for module in model.modules())


def test_batch_size_of_the_example_does_not_matter():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    assert capture(model, torch.zeros(1, 3, 8, 8)).nodes == capture(model, torch.randn(7, 3, 8, 8)).nodes


class Unsupported(nn.Module):
    """Three operations that are not supported, one of them behind another."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(144, 5)

    def forward(self, x):
        a = self.norm(self.conv(x))
        b = F.elu(self.conv(x))
        c = torch.cumsum(x, 1)
        return self.head((a + b).relu().flatten(1)) + c.flatten(1)[:, :5]


def test_all_unsupported_operations_are_listed_at_once():
    with pytest.raises(UnsupportedError) as caught:
        capture(Unsupported(), IMAGE)
    head, *lines = str(caught.value).splitlines()
    assert head == "Unsupported has 3 operations that cannot be trained here:"
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    expected = [
        ("group_norm", "4, 6, 6", "use batch norm"),
        ("elu", "4, 6, 6", "use SiLU"),
        ("cumsum", "3, 8, 8", "triangular matrix"),
    ]
    statements = ["a = self.norm", "b = F.elu", "c = torch.cumsum"]
    for line, (operation, shape, rewrite), statement in zip(lines, expected, statements, strict=True):
        assert line.strip().startswith(f"{operation} -> ")
        assert shape in line
        assert rewrite in line
        path, number = re.search(r"at (\S+):(\d+):", line).groups()
        assert path == __file__
        assert statement in source[int(number) - 1]


def _written_into(head, x):
    places = torch.zeros(5)
    places[2:4].copy_(x[0, 0, 0, :2])
    return head(x.flatten(1)) + places


def _overwritten_part(head, x):
    y = x + 1
    y[:, :2].mul_(3)
    return head(y.flatten(1))


def _overwritten_under_a_view(head, x):
    y = x + 1
    flat = y.flatten(1)
    y.relu_()
    return head(flat)


REFUSED = {
    "overwritten that are read under another name": _overwritten_part,
    "read under another name later": _overwritten_under_a_view,
    "return one tensor of logits": lambda head, x: (head(x.flatten(1)), x),
    "treat every example alike": lambda head, x: head(x[:1].flatten(1)),
    "a mean over the batch": lambda head, x: head((x - x.mean(0, keepdim=True)).flatten(1)),
    "numbers of the examples": lambda head, x: head(x.flatten(1)) + torch.arange(x.shape[0])[:, None],
    "differs between examples": lambda head, x: (
        head(x.flatten(1)) * (torch.arange(x.shape[0])[:, None] + torch.ones(5))
    ),
    "join values with torch.cat": _written_into,
    "other than rows of a parameter": lambda head, x: head(x[:, torch.tensor([2, 0, 1])].flatten(1)),
    "comparing or combining computed": lambda head, x: head(x.flatten(1)) * (x.flatten(1)[:, :5] != 0),
    "filling by a mask": lambda head, x: head(x.masked_fill(x != 0, 1.0).flatten(1)),
    "rolling the batch": lambda head, x: head(x.roll(1, 0).flatten(1)),
    "division by a tensor": lambda head, x: head((x / (1 + x.sigmoid())).flatten(1)),
    "only clamp": lambda head, x: head(x.clamp(-1, 1).flatten(1)),
    "hides the sign of the input": lambda head, x: head(F.leaky_relu(x, -0.1).flatten(1)),
    "the weight is computed": lambda head, x: F.linear(x.flatten(1), head.weight * 2),
    "only zero padding": lambda head, x: head(F.pad(x, (1, 1, 1, 1), mode="reflect").flatten(1)[:, :192]),
    "use batch norm, which folds": lambda head, x: head(F.instance_norm(x).flatten(1)),
    "max pooling over more than 256": lambda head, x: head(
        F.max_pool2d(F.pad(x, (9, 9, 9, 9)), 17, 1).flatten(1)[:, :192]
    ),
    "divisor_override": lambda head, x: head(F.avg_pool2d(x, 1, divisor_override=2).flatten(1)),
    "lets nothing through": lambda head, x: head(F.dropout(x, 1.0).flatten(1)),
    "causal or drops out": lambda head, x: head(F.scaled_dot_product_attention(x, x, x, is_causal=True).flatten(1)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals_say_what_to_write_instead(message):
    with pytest.raises(UnsupportedError, match=message):
        capture(model_of(REFUSED[message]), IMAGE)


BROKEN = {
    "a batch size of its own": lambda head, x: head(x.view(2, 192)),
    "one example only": lambda head, x: head(x.view(1, -1)),
    "another input size": lambda head, x: head(x.flatten(2).flatten(1)[:, :100]),
    "a branch on values": lambda head, x: head(x.flatten(1)) if x.sum() > 0 else head(-x.flatten(1)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_models_that_cannot_be_traced(name):
    with pytest.raises(ShapeError, match="cannot be traced on a batch of 3x8x8 examples"):
        capture(model_of(BROKEN[name]), IMAGE)


def test_the_tracer_logs_nothing_of_its_own(monkeypatch):
    """It has handlers of its own; what it finds is in the error."""
    logger, seen = logging.getLogger("torch._subclasses.fake_tensor"), []
    monkeypatch.setattr(logger, "handle", lambda record: seen.append(record))
    with pytest.raises(ShapeError, match="mine cannot be traced"):
        capture(model_of(BROKEN["another input size"]), IMAGE, "mine")
    assert seen == []
    assert not logger.disabled


@pytest.mark.parametrize("example", [torch.zeros(()), torch.zeros(3), torch.zeros(0, 3, 8, 8), [1, 2], None])
def test_examples_that_are_none(example):
    with pytest.raises(ShapeError, match="the example must be a tensor"):
        capture(nn.Flatten(), example)


def test_shared_weights_stay_frozen():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(192, 5)

        def forward(self, x):
            return self.head(self.conv(self.conv(x).relu()).flatten(1))

    graph = capture(Shared(), IMAGE)
    assert [layer.name for layer in graph.layers] == ["head"]
    assert sum(isinstance(node.op, Conv2d) for node in graph.nodes) == 2


def test_norms_of_the_weights():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 36, 5))
    graph = capture(model, torch.zeros(1, 4, 8, 8))
    weight = model[0].weight.detach().double()
    expected = [weight[:3, 0], weight[:3, 1], weight[3:, 0], weight[3:, 1]]
    assert graph.layers[0].input_norms == pytest.approx([float(rows.norm()) for rows in expected])


def test_nodes_know_where_they_come_from(torchvision_models):
    graph = captured_network("mobilenet_v2")
    for layer in graph.layers:
        node = graph.node[layer.node]
        assert isinstance(node.op, Conv2d | Linear)
        assert node.layer == layer.name
        assert re.fullmatch(r"\S+\.py:\d+", node.source)
