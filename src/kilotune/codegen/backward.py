"""Backward pass of each kind of node as calls: a table; and the gradients of what is trained."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from kilotune.codegen import neurons, tokens
from kilotune.codegen.forward import (
    averaged,
    broadcast,
    concatenated,
    is_all_delta,
    is_pointwise,
    linear_shape,
    moved,
    padded,
    sliced,
)
from kilotune.codegen.keeping import pass_gradient
from kilotune.codegen.program import Argument, Call, Line
from kilotune.codegen.values import NOTHING, Values
from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import ACTIVATION_KEEPS, Node
from kilotune.memory.gradients import Arrival
from kilotune.memory.rings import is_depthwise

Calls = Iterator[Call]


@dataclass(frozen=True)
class Target:
    """Where the gradient of one input goes, and whether it is added to what is there. position: among the node's inputs."""

    value: str
    position: int
    at: Argument
    add: int


def input_gradients(v: Values, step: BackwardStep) -> Iterator[Line]:
    """dL/dx of every wanted input of a node, from dL/dy."""
    route = v.region.layout.timeline.routes[step.node.name]
    dy = v.region.buffer(route.arriving)
    positions = [position for position, wanted in enumerate(step.wanted) if wanted]
    for position, arrival in zip(positions, route.inputs, strict=True):
        at, n = v.region.buffer(arrival.buffer), v.elements(arrival.value)
        if arrival.held is not None and arrival.held != arrival.buffer:
            yield Call("kt_copy", (v.region.buffer(arrival.held), 0, 0, at, 0, 0, 1, 1, n, 0))
        if not _is_passed_on(step.node, arrival, route.arriving):
            target = Target(arrival.value, position, at, int(arrival.held is not None))
            if step.node.op.kind in tokens.BACKWARD:
                yield from tokens.BACKWARD[step.node.op.kind](v, step.node, dy, position, at, target.add)
            else:
                calls = _BACKWARD[step.node.op.kind](v, step.node, dy, target)
                yield from pass_gradient(v, step.node, at, target.add, calls)
            yield from neurons.input_gradient(v, step.node, dy, at)


def _is_passed_on(node: Node, arrival: Arrival, arriving: str) -> bool:
    """Whether the gradient is the one that arrived, where it stands."""
    return isinstance(node.op, ops.Add | ops.Reshape) and arrival.held is None and arrival.buffer == arriving


def _conv2d(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    geometry, piece = v.convolution(node), v.slice(node)
    if piece is not None and is_all_delta(v, node):
        yield Call("kt_pointwise_slice_input_grad", (geometry, dy, piece, to.at, to.add))
        return
    weight = v.weight(node)
    if is_depthwise(node):
        ring = v.scratch(f"{node.name}.gradient.ring")
        arguments = (geometry, dy, *weight, piece or NOTHING, to.at, ring, to.add)
        yield Call(f"kt_depthwise_input_grad_{v.suffix(node)}", arguments)
        return
    if is_pointwise(node):
        yield Call(
            f"kt_pointwise_input_grad_{v.suffix(node)}", (geometry, dy, *weight, piece or NOTHING, to.at, to.add)
        )
        return
    yield Call(f"kt_conv2d_input_grad_{v.suffix(node)}", (geometry, dy, *weight, to.at, to.add))
    if piece is not None:
        patterns = v.patterns(node)
        yield Call(f"kt_conv2d_slice_input_grad{'_taps' * len(patterns)}", (geometry, dy, piece, *patterns, to.at))


def _linear(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    (c, o), piece = linear_shape(node), v.slice(node)
    n = v.elements(node.name) // o
    yield Call(f"kt_linear_input_grad_{v.suffix(node)}", (dy, *v.weight(node), to.at, n, c, o, to.add))
    if piece is not None:
        yield Call("kt_linear_slice_input_grad", (dy, piece, to.at, n, c, o))


def _activation(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    op, n = node.op, v.elements(node.name)
    assert isinstance(op, ops.Activation)
    keeps = ACTIVATION_KEEPS[op.function]
    if keeps != "mask":
        kept = v.value(node.inputs[0] if keeps == "input" else node.name)
        yield Call(f"kt_{op.function}_grad", (dy, kept, to.at, n, to.add))
        return
    mask = v.mask(f"{node.name}.mask")
    assert mask is not None
    on, off = {"hardsigmoid": (1 / 6, 0.0), "leaky_relu": (1.0, op.slope)}.get(op.function, (1.0, 0.0))
    if (on, off) == (1.0, 0.0):
        yield Call("kt_mask_grad", (dy, mask, to.at, n, to.add))
    else:
        yield Call("kt_scaled_mask_grad", (dy, mask, to.at, n, on, off, to.add))


def _add(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    if v.elements(to.value) != v.elements(node.name):
        yield from tokens.add_repeated_grad(v, node, to.value, dy, to.at, to.add)
        return
    yield Call("kt_copy", (dy, 0, 0, to.at, 0, 0, 1, 1, v.elements(to.value), to.add))


def _mul(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    found = broadcast(v, node)
    assert found is not None
    wide, narrow, n = found
    if to.value == wide:
        yield Call("kt_mul", (dy, v.value(narrow), to.at, v.elements(narrow), n, to.add))
    else:
        yield Call("kt_mul_sum", (dy, v.value(wide), to.at, v.elements(narrow), n, to.add))


def _affine(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    assert isinstance(node.op, ops.Affine)
    yield Call("kt_affine_grad", (dy, to.at, v.elements(node.name), node.op.scale, to.add))


def _batch_norm(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    c, *rest = v.shape(node.name)
    scale = v.constant(f"weight{v.number[node.name]}", v.folded[node.name].weight)
    yield Call("kt_channel_affine_grad", (dy, scale, to.at, c, prod(rest), to.add))


def _mean(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    found = averaged(v, node)
    if found is not None and found[2] == 1:
        yield Call("kt_mean_grad", (dy, to.at, *found[:2], to.add))
    elif found is not None:
        yield Call("kt_mean_rows_grad", (dy, to.at, *found, to.add))
    else:
        yield Call("kt_adaptive_avg_pool_grad", (v.pooling(node), dy, to.at, to.add))


def _avg_pool(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    assert isinstance(node.op, ops.AvgPool)
    yield Call("kt_avg_pool_grad", (v.pooling(node), dy, to.at, int(node.op.count_include_pad), to.add))


def _max_pool(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    taps = v.mask(f"{node.name}.argmax")
    assert taps is not None
    yield Call("kt_max_pool_grad", (v.pooling(node), dy, taps, to.at, to.add))


def _concat(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    _, (first, outer_step, middle_step, outer, middle, inner) = list(concatenated(v, node))[to.position]
    source, steps = moved(dy, first), (middle * inner, inner)
    yield Call("kt_copy", (source, outer_step, middle_step, to.at, *steps, outer, middle, inner, to.add))


def _slice(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    first, outer_step, middle_step, outer, middle, inner = sliced(v, node)
    if not to.add:
        yield Call("kt_zero", (to.at, v.elements(to.value)))
    target = (moved(to.at, first), outer_step, middle_step)
    yield Call("kt_copy", (dy, middle * inner, inner, *target, outer, middle, inner, 1))


def _pad(v: Values, node: Node, dy: Argument, to: Target) -> Calls:
    first, outer_step, middle_step, outer, middle, inner = padded(v, node)
    source = (moved(dy, first), outer_step, middle_step)
    yield Call("kt_copy", (*source, to.at, middle * inner, inner, outer, middle, inner, to.add))


_BACKWARD: dict[str, Callable[[Values, Node, Argument, Target], Calls]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "activation": _activation,
    "add": _add,
    "reshape": _add,
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
}


def weight_gradient(v: Values, node: Node, piece: Argument, dy: Argument) -> Calls:
    """Gradient of a trained slice, added to what is in it."""
    scale = v.weight_scale(node)
    if v.neurons(node) is not None:
        yield from neurons.weight_gradient(v, node, dy)
    elif isinstance(node.op, ops.Linear):
        _, o = linear_shape(node)
        yield Call("kt_linear_weight_grad", (piece, dy, scale, v.elements(node.name) // o, o))
    else:
        kind, patterns = "pointwise" if is_pointwise(node) else "conv2d", v.patterns(node)
        name = f"kt_{kind}_weight_grad{'_taps' * len(patterns)}"
        yield Call(name, (v.convolution(node), piece, *patterns, dy, scale))


def bias_gradient(v: Values, node: Node, at: Argument, dy: Argument) -> Calls:
    """Gradient of a bias, added to what is at ``at``."""
    o, scale = v.layer_of[node.name].out_channels, v.bias_scale(node)
    kernel = "kt_bias_grad_rows" if isinstance(node.op, ops.Linear) else "kt_bias_grad"
    yield Call(kernel, (dy, scale, at, o, v.elements(node.name) // o))
