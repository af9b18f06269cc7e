"""Forward pass of each kind of node as calls: a table. ``keeping``: whether masks and chosen channels are kept for backward."""

from collections.abc import Callable, Iterator
from math import prod

from kilotune.codegen import tokens
from kilotune.codegen.keeping import keep_input
from kilotune.codegen.program import Argument, Call, Place
from kilotune.codegen.values import NOTHING, Values
from kilotune.graph import node as ops
from kilotune.graph.node import ACTIVATION_KEEPS, Node
from kilotune.memory.rings import is_depthwise

MAX_KERNEL = 11
"""``KT_MAX_KERNEL``."""
SMOOTH = ("sigmoid", "tanh", "silu", "hardswish", "gelu", "gelu_tanh")
MASKED = ("relu", "relu6", "hardsigmoid", "leaky_relu")

Calls = Iterator[Call]


def is_pointwise(node: Node) -> bool:
    """Whether a convolution is a matrix product over pixels that lie one after another."""
    op = node.op
    if not isinstance(op, ops.Conv2d) or op.weight_shape[2:] != (1, 1) or op.groups != 1:
        return False
    return op.stride == (1, 1) and not any(op.padding)


def is_all_delta(v: Values, node: Node) -> bool:
    """Whether a pointwise convolution has no weight but its trained slice."""
    return v.given and v.is_whole(node) and is_pointwise(node) and not v.patterns(node)


def _conv2d(v: Values, node: Node, keeping: bool) -> Calls:
    x, y, geometry, piece = v.value(node.inputs[0]), v.value(node.name), v.convolution(node), v.slice(node)
    if keeping and piece is not None and v.keeps_input(node):
        yield keep_input(v, node, piece)
    if piece is not None and is_all_delta(v, node):
        yield Call("kt_pointwise_slice", (geometry, x, v.bias(node), piece, y))
        return
    arguments = (geometry, x, *v.weight(node), v.bias(node), piece or NOTHING, y)
    if is_depthwise(node):
        yield Call(f"kt_depthwise_{v.suffix(node)}", (*arguments, v.scratch(f"{node.name}.ring")))
    else:
        yield Call(f"kt_{'pointwise' if is_pointwise(node) else 'conv2d'}_{v.suffix(node)}", arguments)


def _linear(v: Values, node: Node, keeping: bool) -> Calls:
    (c, o), piece = linear_shape(node), v.slice(node)
    x, y, n = v.value(node.inputs[0]), v.value(node.name), v.elements(node.name) // o
    if keeping and piece is not None and v.keeps_input(node):
        yield keep_input(v, node, piece)
    yield Call(f"kt_linear_{v.suffix(node)}", (x, *v.weight(node), v.bias(node), y, n, c, o))
    if piece is not None:
        yield Call("kt_linear_slice", (x, piece, y, n, c, o))


def linear_shape(node: Node) -> tuple[int, int]:
    """(c, o) of a linear layer."""
    assert isinstance(node.op, ops.Linear)
    o, c = node.op.weight_shape
    return c, o


def _activation(v: Values, node: Node, keeping: bool) -> Calls:
    op = node.op
    assert isinstance(op, ops.Activation)
    mask = v.mask(f"{node.name}.mask") if keeping else None
    arguments: tuple[Argument, ...] = (v.value(node.inputs[0]), v.value(node.name))
    if mask is not None:
        arguments = (*arguments, mask)
    arguments = (*arguments, v.elements(node.name))
    if op.function == "leaky_relu":
        arguments = (*arguments, op.slope)
    yield Call(f"kt_{op.function}{'_mask' * (mask is not None)}", arguments)


def _add(v: Values, node: Node, keeping: bool) -> Calls:
    a, b = node.inputs
    repeated = tokens.repeated_operand(v, node)
    if repeated is not None:
        yield from tokens.add_repeated(v, node, *repeated)
        return
    yield Call("kt_add", (v.value(a), v.value(b), v.value(node.name), v.elements(node.name)))


def broadcast(v: Values, node: Node) -> tuple[str, str, int] | None:
    """(wide, narrow, n) of a product in which each element of narrow meets n of wide; None if it is not of that form."""
    a, b = node.inputs
    for wide, narrow in ((a, b), (b, a)):
        shape, other = v.full(wide), v.full(narrow)
        if shape == v.full(node.name) and len(shape) == len(other):
            same = next((i for i, (m, n) in enumerate(zip(shape, other, strict=True)) if m != n), len(shape))
            if all(n == 1 for n in other[same:]):
                return wide, narrow, prod(shape[same:])
    return None


def _mul(v: Values, node: Node, keeping: bool) -> Calls:
    found = broadcast(v, node)
    assert found is not None
    wide, narrow, n = found
    yield Call("kt_mul", (v.value(wide), v.value(narrow), v.value(node.name), v.elements(narrow), n, 0))


def _affine(v: Values, node: Node, keeping: bool) -> Calls:
    assert isinstance(node.op, ops.Affine)
    n = v.elements(node.name)
    yield Call("kt_affine", (v.value(node.inputs[0]), v.value(node.name), n, node.op.scale, node.op.shift))


def _batch_norm(v: Values, node: Node, keeping: bool) -> Calls:
    c, *rest = v.shape(node.name)
    scale = v.constant(f"weight{v.number[node.name]}", v.folded[node.name].weight)
    yield Call(
        "kt_channel_affine", (v.value(node.inputs[0]), scale, v.initial_bias(node), v.value(node.name), c, prod(rest))
    )


def averaged(v: Values, node: Node) -> tuple[int, int, int] | None:
    """(m, n, inner) where the node is the mean of m n inner elements over n, else None."""
    shape, op = v.full(node.inputs[0]), node.op
    if isinstance(op, ops.Mean):
        first, last = op.axes[0], op.axes[-1] + 1
        sizes = prod(shape[:first]), prod(shape[first:last]), prod(shape[last:])
        return sizes if op.axes == tuple(range(first, last)) else None
    whole = isinstance(op, ops.AdaptiveAvgPool) and op.output_size == (1, 1)
    return (prod(shape[:-2]), prod(shape[-2:]), 1) if whole else None


def _mean(v: Values, node: Node, keeping: bool) -> Calls:
    found = averaged(v, node)
    if found is not None and found[2] == 1:
        yield Call("kt_mean", (v.value(node.inputs[0]), v.value(node.name), *found[:2]))
    elif found is not None:
        yield Call("kt_mean_rows", (v.value(node.inputs[0]), v.value(node.name), *found))
    else:
        yield Call("kt_adaptive_avg_pool", (v.pooling(node), v.value(node.inputs[0]), v.value(node.name)))


def _avg_pool(v: Values, node: Node, keeping: bool) -> Calls:
    assert isinstance(node.op, ops.AvgPool)
    padded = int(node.op.count_include_pad)
    yield Call("kt_avg_pool", (v.pooling(node), v.value(node.inputs[0]), v.value(node.name), padded))


def _max_pool(v: Values, node: Node, keeping: bool) -> Calls:
    taps = v.mask(f"{node.name}.argmax") if keeping else None
    yield Call("kt_max_pool", (v.pooling(node), v.value(node.inputs[0]), v.value(node.name), taps or NOTHING))


def part(v: Values, whole: str, axis: int, start: int, step: int, size: int) -> tuple[int, int, int, int, int, int]:
    """(first element, outer step, middle step, outer, middle, inner) of ``whole[start::step]`` along ``axis``, ``size`` long."""
    shape = v.full(whole)
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    return start * inner, shape[axis] * inner, step * inner, outer, size, inner


def concatenated(v: Values, node: Node) -> Iterator[tuple[str, tuple[int, int, int, int, int, int]]]:
    """Each input with the part of the output that it is."""
    assert isinstance(node.op, ops.Concat)
    axis, start = node.op.axis, 0
    for name in node.inputs:
        size = v.full(name)[axis]
        yield name, part(v, node.name, axis, start, 1, size)
        start += size


def sliced(v: Values, node: Node) -> tuple[int, int, int, int, int, int]:
    """The part of the input that the node takes."""
    op = node.op
    assert isinstance(op, ops.Slice)
    return part(v, node.inputs[0], op.axis, op.start, op.step, v.full(node.name)[op.axis])


def moved(at: Argument, elements: int) -> Argument:
    """``elements`` numbers further on."""
    assert isinstance(at, Place)
    return Place(at.offset + 4 * elements)


def _concat(v: Values, node: Node, keeping: bool) -> Calls:
    for name, (first, outer_step, middle_step, outer, middle, inner) in concatenated(v, node):
        steps = (middle * inner, inner)
        to = moved(v.value(node.name), first)
        yield Call("kt_copy", (v.value(name), *steps, to, outer_step, middle_step, outer, middle, inner, 0))


def _slice(v: Values, node: Node, keeping: bool) -> Calls:
    first, outer_step, middle_step, outer, middle, inner = sliced(v, node)
    source = moved(v.value(node.inputs[0]), first)
    to = (v.value(node.name), middle * inner, inner)
    yield Call("kt_copy", (source, outer_step, middle_step, *to, outer, middle, inner, 0))


def padded(v: Values, node: Node) -> tuple[int, int, int, int, int, int]:
    """The part of the output that is the input: (first element, plane step, row step, planes, rows, columns)."""
    assert isinstance(node.op, ops.Pad)
    *_, height, width = v.shape(node.name)
    *planes, rows, columns = v.shape(node.inputs[0])
    top, _, left, _ = node.op.padding
    return top * width + left, height * width, width, prod(planes), rows, columns


def _pad(v: Values, node: Node, keeping: bool) -> Calls:
    first, outer_step, middle_step, outer, middle, inner = padded(v, node)
    yield Call("kt_zero", (v.value(node.name), v.elements(node.name)))
    source, to = (v.value(node.inputs[0]), middle * inner, inner), moved(v.value(node.name), first)
    yield Call("kt_copy", (*source, to, outer_step, middle_step, outer, middle, inner, 0))


def _nothing(v: Values, node: Node, keeping: bool) -> Calls:
    yield from ()


FORWARD: dict[str, Callable[[Values, Node, bool], Calls]] = {
    "input": _nothing,
    "parameter": _nothing,
    "reshape": _nothing,
    "conv2d": _conv2d,
    "linear": _linear,
    "activation": _activation,
    "add": _add,
    "mul": _mul,
    "affine": _affine,
    "batch_norm": _batch_norm,
    "mean": _mean,
    "adaptive_avg_pool": _mean,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    **tokens.FORWARD,
}
_OF_IMAGES = ops.Conv2d | ops.MaxPool | ops.AvgPool | ops.AdaptiveAvgPool | ops.Pad | ops.BatchNorm


def problem(v: Values, node: Node) -> str | None:
    """Why a node cannot become C, None if it can."""
    op = node.op
    if op.kind not in FORWARD:
        return "there is no kernel for it"
    shapes = [v.full(name) for name in node.inputs]
    if isinstance(op, ops.Conv2d) and max(op.weight_shape[2:]) > MAX_KERNEL:
        return f"kernels are at most {MAX_KERNEL} wide"
    sizes = {v.elements(name) for name in (node.name, *node.inputs)}
    if isinstance(op, ops.Add) and len(sizes) > 1 and tokens.repeated_operand(v, node) is None:
        return f"sums of different shapes {shapes}; one of them must have the shape of the sum"
    if isinstance(op, ops.Mul) and broadcast(v, node) is None:
        return f"products of shapes {shapes}; the smaller one must be 1 from some axis on"
    if isinstance(op, ops.Mean) and averaged(v, node) is None:
        return "means are over axes that follow each other"
    if isinstance(op, _OF_IMAGES) and (node.output.batch_axis, shapes[0][0]) != (0, 1):
        return "the batch must be the first axis"
    if isinstance(op, ops.Pad) and op.behind:
        return "padding is of the last two axes"
    return tokens.problem(v, node)


assert set(ACTIVATION_KEEPS) == {*SMOOTH, *MASKED}
