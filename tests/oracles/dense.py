"""What training would do without kilotune: dense autograd on the user's own module, entry by entry."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kilotune.graph.node import Conv2d, Graph
from kilotune.ops.slices import bias_name
from kilotune.update_plan import ChannelSet, UpdatePlan

# Both sides add the same products in float64, in another order: at most ten thousand terms, each rounded to 1.1e-16.
FLOAT64_TOLERANCE = 1e-10


def everything(graph: Graph, axis: str = "in") -> UpdatePlan:
    """The plan that trains all that can be trained."""
    count = {"in": lambda layer: layer.in_channels, "out": lambda layer: layer.out_channels}[axis]
    sets = tuple(ChannelSet(layer.name, axis, tuple(range(count(layer)))) for layer in graph.body)
    return UpdatePlan(sets, tuple(layer.name for layer in graph.body if layer.has_bias))


def dense_gradients(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """dL/dp of every parameter of ``model`` with its batch norm frozen, by parameter name."""
    model.eval()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


def entries(weight: Tensor, chosen: ChannelSet, groups: int) -> list[Tensor]:
    """Views of the weights (o, c/groups, ...) of each chosen channel, one after another."""
    if chosen.axis == "out":
        return [weight[index] for index in chosen.indices]
    n_inputs, n_outputs = weight.shape[1], weight.shape[0] // groups
    views = []
    for index in chosen.indices:
        group = index // n_inputs
        views.append(weight[group * n_outputs : (group + 1) * n_outputs, index % n_inputs])
    return views


def whole(graph: Graph, plan: UpdatePlan) -> tuple[tuple[ChannelSet, ...], tuple[str, ...]]:
    """(channel sets, layers with a trained bias) of a plan, the classifier among them."""
    if not plan.classifier or graph.classifier is None:
        return plan.channels, plan.biases
    head = graph.layer[graph.classifier]
    sets = (*plan.channels, ChannelSet(head.name, "in", tuple(range(head.in_channels))))
    return sets, (*plan.biases, head.name) if head.has_bias else plan.biases


def expected_gradients(graph: Graph, plan: UpdatePlan, dense: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the live parameters of ``plan``, cut out of the dense ones."""
    sets, biases = whole(graph, plan)
    ops = {layer.name: graph.node[layer.node].op for layer in graph.layers}
    expected = {f"{name}.bias": dense[bias_name(ops[name])] for name in biases}
    for chosen in sets:
        op = ops[chosen.layer]
        groups = op.groups if isinstance(op, Conv2d) else 1
        expected[f"{chosen.layer}.weight"] = torch.stack(entries(dense[op.weight], chosen, groups))
    return expected


def overwrite_trained(graph: Graph, plan: UpdatePlan, target: dict[str, Tensor], source: dict[str, Tensor]) -> int:
    """Copy what ``plan`` trains from one state dict into another, entry by entry; how many entries differed."""
    sets, biases = whole(graph, plan)
    ops = {layer.name: graph.node[layer.node].op for layer in graph.layers}
    pairs = [(target[bias_name(ops[name])], source[bias_name(ops[name])]) for name in biases]
    for chosen in sets:
        op = ops[chosen.layer]
        groups = op.groups if isinstance(op, Conv2d) else 1
        pairs += zip(
            entries(target[op.weight], chosen, groups), entries(source[op.weight], chosen, groups), strict=True
        )  # fmt: skip
    n_changed = 0
    for old, new in pairs:
        n_changed += int((old != new).sum())
        old.copy_(new)
    return n_changed


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected entry."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
