"""Attention, norms and axes in another order as calls, forward and backward: two tables, and what they cannot do."""

from collections.abc import Callable, Iterator
from itertools import product
from math import prod

from kilotune.codegen.program import Argument, Call, Place
from kilotune.codegen.values import Values
from kilotune.codegen.views import MOST_AXES, broadcast_strides, strides, view
from kilotune.graph import node as ops
from kilotune.graph.node import Node

Calls = Iterator[Call]
Shape = tuple[int, ...]


def norm_arguments(v: Values, node: Node) -> tuple[Argument, Argument]:
    """Scale and shift of a layer norm."""
    return v.constant(f"weight{v.number[node.name]}", v.folded[node.name].weight), v.initial_bias(node)


def _rows(v: Values, node: Node) -> tuple[int, int]:
    assert isinstance(node.op, ops.LayerNorm)
    shape = v.full(node.name)
    return prod(shape[: -node.op.axes]), prod(shape[-node.op.axes :])


def _layer_norm(v: Values, node: Node, keeping: bool) -> Calls:
    assert isinstance(node.op, ops.LayerNorm)
    arguments = (v.value(node.inputs[0]), *norm_arguments(v, node), v.value(node.name))
    yield Call("kt_layer_norm", (*arguments, *_rows(v, node), node.op.epsilon))


def _layer_norm_grad(v: Values, node: Node, dy: Argument, position: int, at: Argument, add: int) -> Calls:
    assert isinstance(node.op, ops.LayerNorm)
    scale, _ = norm_arguments(v, node)
    yield Call("kt_layer_norm_grad", (dy, v.value(node.inputs[0]), scale, at, *_rows(v, node), node.op.epsilon, add))


def _along(v: Values, node: Node) -> tuple[int, int, int]:
    assert isinstance(node.op, ops.Softmax)
    shape, axis = v.full(node.name), node.op.axis
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _softmax(v: Values, node: Node, keeping: bool) -> Calls:
    yield Call("kt_softmax", (v.value(node.inputs[0]), v.value(node.name), *_along(v, node)))


def _softmax_grad(v: Values, node: Node, dy: Argument, position: int, at: Argument, add: int) -> Calls:
    yield Call("kt_softmax_grad", (dy, v.value(node.name), at, *_along(v, node), add))


def _sizes(v: Values, node: Node) -> tuple[int, int, int, int]:
    """(times, m, k, n) of a product."""
    *times, m, n = v.full(node.name)
    return prod(times), m, v.full(node.inputs[0])[-1], n


def _matmul(v: Values, node: Node, keeping: bool) -> Calls:
    assert isinstance(node.op, ops.MatMul)
    a, b = node.inputs
    kernel = "kt_matmul_bt" if node.op.transpose_b else "kt_matmul"
    yield Call(kernel, (v.value(a), v.value(b), v.value(node.name), *_sizes(v, node), node.op.scale, 0))


def _matmul_grad(v: Values, node: Node, dy: Argument, position: int, at: Argument, add: int) -> Calls:
    """For y = s a b: da = s dy b^T, db = s a^T dy; for y = s a b^T: da = s dy b, db = s dy^T a."""
    assert isinstance(node.op, ops.MatMul)
    (times, m, k, n), (a, b) = _sizes(v, node), (v.value(name) for name in node.inputs)
    turned, end = node.op.transpose_b, (node.op.scale, add)
    if position == 0:
        yield Call("kt_matmul" if turned else "kt_matmul_bt", (dy, b, at, times, m, n, k, *end))
    elif turned:
        yield Call("kt_matmul_at", (dy, a, at, times, n, m, k, *end))
    else:
        yield Call("kt_matmul_at", (a, dy, at, times, k, m, n, *end))


def _permuted(v: Values, node: Node) -> tuple[Shape, list[int], list[int]]:
    """Sizes of the output, steps through the input, steps through the output."""
    assert isinstance(node.op, ops.Permute)
    shape, steps = v.full(node.name), strides(v.full(node.inputs[0]))
    return shape, [steps[axis] for axis in node.op.axes], strides(shape)


def _permute(v: Values, node: Node, keeping: bool) -> Calls:
    shape, source, target = _permuted(v, node)
    yield _copy(
        v, f"view{v.number[node.name]}", (shape, source, target), v.value(node.inputs[0]), v.value(node.name), 0
    )


def _permute_grad(v: Values, node: Node, dy: Argument, position: int, at: Argument, add: int) -> Calls:
    shape, source, target = _permuted(v, node)
    yield _copy(v, f"view{v.number[node.name]}_back", (shape, target, source), dy, at, add)


def _repeated(v: Values, node: Node, name: str) -> tuple[Shape, list[int], list[int]]:
    shape = v.full(node.name)
    return shape, broadcast_strides(v.full(name), shape), strides(shape)


def _expand(v: Values, node: Node, keeping: bool) -> Calls:
    name = node.inputs[0]
    yield _copy(v, f"view{v.number[node.name]}", _repeated(v, node, name), v.value(name), v.value(node.name), 0)


def _expand_grad(v: Values, node: Node, dy: Argument, position: int, at: Argument, add: int) -> Calls:
    yield from _summed(v, node, node.inputs[0], dy, at, add)


def _summed(v: Values, node: Node, name: str, dy: Argument, at: Argument, add: int) -> Calls:
    """The gradient of an input that was repeated."""
    shape, source, target = _repeated(v, node, name)
    if not add:
        yield Call("kt_zero", (at, v.elements(name)))
    yield _copy(v, f"view{v.number[node.name]}_back", (shape, target, source), dy, at, 1)


def repeated_operand(v: Values, node: Node) -> tuple[str, str] | None:
    """(wide, narrow) of a sum in which one operand is repeated along some axes; None for another kind of sum."""
    a, b = node.inputs
    for wide, narrow in ((a, b), (b, a)):
        if v.full(wide) == v.full(node.name) and v.elements(wide) != v.elements(narrow):
            return wide, narrow
    return None


def add_repeated(v: Values, node: Node, wide: str, narrow: str) -> Calls:
    """A sum in which one operand is repeated."""
    x, y = v.value(wide), v.value(node.name)
    if x != y:
        yield Call("kt_copy", (x, 0, 0, y, 0, 0, 1, 1, v.elements(wide), 0))
    yield _copy(v, f"view{v.number[node.name]}", _repeated(v, node, narrow), v.value(narrow), y, 1)


def add_repeated_grad(v: Values, node: Node, name: str, dy: Argument, at: Argument, add: int) -> Calls:
    """The gradient of an operand that was repeated."""
    yield from _summed(v, node, name, dy, at, add)


def _blocks(v: Values, node: Node) -> Iterator[tuple[int, int, Shape]]:
    """The blocks that a cyclic shift leaves together: first element in the input, in the output, sizes."""
    assert isinstance(node.op, ops.Roll)
    shape = v.full(node.name)
    steps, shifts = strides(shape), dict(zip(node.op.axes, node.op.shifts, strict=True))
    parts = []
    for axis, size in enumerate(shape):
        shift = shifts.get(axis, 0) % size
        parts.append([(0, shift, size - shift), (size - shift, 0, shift)] if shift else [(0, 0, size)])
    for block in product(*parts):
        source, target = (sum(part[side] * step for part, step in zip(block, steps, strict=True)) for side in (0, 1))
        yield source, target, tuple(part[2] for part in block)


def _roll(v: Values, node: Node, keeping: bool) -> Calls:
    steps = strides(v.full(node.name))
    for number, (source, target, sizes) in enumerate(_blocks(v, node)):
        x, y = _further(v.value(node.inputs[0]), source), _further(v.value(node.name), target)
        yield _copy(v, f"view{v.number[node.name]}_{number}", (sizes, steps, steps), x, y, 0)


def _roll_grad(v: Values, node: Node, dy: Argument, position: int, at: Argument, add: int) -> Calls:
    steps = strides(v.full(node.name))
    for number, (source, target, sizes) in enumerate(_blocks(v, node)):
        from_, to = _further(dy, target), _further(at, source)
        yield _copy(v, f"view{v.number[node.name]}_{number}", (sizes, steps, steps), from_, to, add)


def _further(at: Argument, elements: int) -> Argument:
    assert isinstance(at, Place)
    return Place(at.offset + 4 * elements)


def _copy(
    v: Values, name: str, axes: tuple[Shape, list[int], list[int]], source: Argument, target: Argument, add: int
) -> Call:
    return Call("kt_copy_view", (v.constant(name, view(*axes)), source, target, add))


FORWARD: dict[str, Callable[[Values, Node, bool], Calls]] = {
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "matmul": _matmul,
    "permute": _permute,
    "expand": _expand,
    "roll": _roll,
}
# (values, node, dL/dy, position of the input, where its gradient goes, whether it is added there)
BACKWARD: dict[str, Callable[[Values, Node, Argument, int, Argument, int], Calls]] = {
    "layer_norm": _layer_norm_grad,
    "softmax": _softmax_grad,
    "matmul": _matmul_grad,
    "permute": _permute_grad,
    "expand": _expand_grad,
    "roll": _roll_grad,
}


def problem(v: Values, node: Node) -> str | None:
    """Why a node of these kinds cannot become C, None if it can."""
    shapes = [v.full(name) for name in node.inputs]
    if isinstance(node.op, ops.MatMul) and shapes[0][:-2] != shapes[1][:-2]:
        return f"products of shapes {shapes}; all axes but the last two must be the same"
    if isinstance(node.op, ops.Permute | ops.Expand) and len(v.full(node.name)) > MOST_AXES:
        return f"{len(v.full(node.name))} axes, a device has {MOST_AXES}"
    return None
