"""The trainable layers of a network, read off its nodes."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from kilotune.graph.node import (
    Activation,
    AdaptiveAvgPool,
    Affine,
    AvgPool,
    Conv2d,
    Dropout,
    Graph,
    Layer,
    Linear,
    Mean,
    Node,
    Reshape,
)
from kilotune.graph.patterns import n_taps

Side = Literal["input", "output"]


def build_layers(nodes: Sequence[Node], norms: Callable[[Conv2d | Linear], tuple[float, ...]]) -> tuple[Layer, ...]:
    """Convolutions and linear layers in forward order; a weight used by several nodes stays frozen and is left out."""
    by_name = {node.name: node for node in nodes}
    uses = Counter(node.op.weight for node in nodes if isinstance(node.op, Conv2d | Linear))
    return tuple(
        _layer(node, by_name[node.inputs[0]], norms(node.op))
        for node in nodes
        if isinstance(node.op, Conv2d | Linear) and uses[node.op.weight] == 1
    )


def _layer(node: Node, source: Node, norms: tuple[float, ...]) -> Layer:
    op = node.op
    assert isinstance(op, Conv2d | Linear)
    has_bias = op.bias is not None or (op.norm is not None and op.norm.bias is not None)
    if isinstance(op, Linear):
        out_channels, in_channels = op.weight_shape
        tokens = source.output.elements // in_channels
        return Layer(
            node.layer,
            node.name,
            "linear",
            in_channels,
            out_channels,
            (1, 1),
            (1, 1),
            1,
            (tokens, 1),
            (tokens, 1),
            has_bias,
            norms,
        )
    in_channels, out_channels = source.output.shape[1], op.weight_shape[0]
    depthwise = op.groups == in_channels and op.groups > 1
    return Layer(
        node.layer,
        node.name,
        "depthwise_conv2d" if depthwise else "conv2d",
        in_channels,
        out_channels,
        op.weight_shape[2:],
        op.stride,
        op.groups,
        source.output.shape[2:],
        node.output.shape[2:],
        has_bias,
        norms,
        n_taps(op.weight_shape[2]) if op.pattern else None,
    )


def value_of(graph: Graph, layer: Layer, side: Side) -> str:
    """Node whose value a layer reads, or gives to the next: that of the activation function behind it where there is one."""
    if side == "input":
        return graph.node[layer.node].inputs[0]
    readers = [node for node in graph.nodes if layer.node in node.inputs]
    activated = len(readers) == 1 and isinstance(readers[0].op, Activation)
    return readers[0].name if activated else layer.node


def find_classifier(nodes: Sequence[Node], output: str, layers: Sequence[Layer]) -> str | None:
    """The layer whose output is the logits, up to element-wise functions and pooling (SqueezeNet); None if there is none."""
    by_name = {node.name: node for node in nodes}
    node = by_name[output]
    while isinstance(node.op, Reshape | Dropout | Affine | Activation | Mean | AvgPool | AdaptiveAvgPool):
        node = by_name[node.inputs[0]]
    return node.layer if any(layer.node == node.name for layer in layers) else None
