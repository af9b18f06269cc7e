"""Trained output neurons as calls: they add to what the frozen weight has computed, and read the whole input."""

from collections.abc import Iterator

from kilotune.codegen.program import Argument, Call, Name
from kilotune.codegen.values import Values
from kilotune.graph import node as ops
from kilotune.graph.node import Linear, Node

Calls = Iterator[Call]


def forward(v: Values, node: Node, keeping: bool) -> Calls:
    """What the trained neurons of a layer add to its output; and a copy of its input for backward."""
    piece = v.neurons(node)
    if piece is None:
        return
    x, y = v.value(node.inputs[0]), v.value(node.name)
    if keeping and v.keeps_input(node):
        kept, n = Name(f"kt_slices[{v.slice_number(node)}].kept"), v.elements(node.inputs[0])
        yield Call("kt_copy", (x, 0, 0, kept, 0, 0, 1, 1, n, 0))
    if isinstance(node.op, Linear):
        yield Call("kt_linear_neurons", (x, piece, y, *_sizes(v, node)))
    else:
        yield _convolution(v, node, "kt_conv2d_neurons", (x, piece), y)


def input_gradient(v: Values, node: Node, dy: Argument, dx: Argument) -> Calls:
    """What they add to the gradient of the input."""
    piece = v.neurons(node)
    if piece is not None and isinstance(node.op, Linear):
        yield Call("kt_linear_neurons_input_grad", (dy, piece, dx, *_sizes(v, node)))
    elif piece is not None:
        yield _convolution(v, node, "kt_conv2d_neurons_input_grad", (dy, piece), dx)


def weight_gradient(v: Values, node: Node, dy: Argument) -> Calls:
    """Their own gradient, added to what is in the slice."""
    piece, scale = v.neurons(node), v.weight_scale(node)
    if piece is not None and isinstance(node.op, Linear):
        yield Call("kt_linear_neurons_weight_grad", (piece, dy, scale, *_sizes(v, node)))
    elif piece is not None:
        yield _convolution(v, node, "kt_conv2d_neurons_weight_grad", (piece,), dy, scale)


def _convolution(v: Values, node: Node, kernel: str, before: tuple[Argument, ...], *behind: Argument) -> Call:
    """A kernel of convolutions; one with patterns takes them between the slice and the rest."""
    patterns = v.patterns(node)
    return Call(f"{kernel}{'_taps' * len(patterns)}", (v.convolution(node), *before, *patterns, *behind))


def _sizes(v: Values, node: Node) -> tuple[int, int, int]:
    """(n, c, o) of a linear layer."""
    assert isinstance(node.op, ops.Linear)
    o, c = node.op.weight_shape
    return v.elements(node.name) // o, c, o
