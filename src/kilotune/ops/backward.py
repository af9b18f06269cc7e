"""Backward pass of each kind of node: a table. ``run(node, weights, dy, kept, wanted, shapes)`` gives one gradient per input,
None where it is not wanted. Weight gradients of trained slices are in ``linear``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kilotune.graph.node import ACTIVATION_KEEPS
from kilotune.ops import elementwise, keep, linear
from kilotune.ops.forward import Weights, per_channel

Shapes = list[tuple[int, ...]]
Wanted = tuple[bool, ...]
Grads = list[Tensor | None]

_aten = torch.ops.aten


def _layer(input_grad: Callable) -> Callable[..., Grads]:
    def run(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
        return [input_grad(node.op, w.weight, dy, shapes[0]) if wanted[0] else None]

    return run


def _activation(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    if ACTIVATION_KEEPS[node.op.function] == "mask":
        return [elementwise.masked_grad(node.op, dy, keep.unpack_bits(kept[0], dy.shape, dy.dtype, w.layout))]
    return [elementwise.smooth_grad(node.op, dy, kept[0])]


def _add(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    return [elementwise.reduce_to(dy, s) if needed else None for s, needed in zip(shapes, wanted, strict=True)]


def _mul(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    others = iter(kept)
    return [
        elementwise.reduce_to(dy * next(others), s) if needed else None
        for s, needed in zip(shapes, wanted, strict=True)
    ]


def _max_pool(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    op, indices = node.op, keep.unpack_taps(kept[0], shapes[0][-1], node.op)
    x = dy.new_empty(shapes[0])
    return [
        _aten.max_pool2d_with_indices_backward(
            dy.contiguous(), x, op.kernel, op.stride, op.padding, op.dilation, op.ceil_mode, indices
        )
    ]


def _avg_pool(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    op, x = node.op, dy.new_empty(shapes[0])
    return [
        _aten.avg_pool2d_backward(
            dy.contiguous(), x, op.kernel, op.stride, op.padding, op.ceil_mode, op.count_include_pad, None
        )
    ]


def _adaptive_avg_pool(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    return [_aten._adaptive_avg_pool2d_backward(dy.contiguous(), dy.new_empty(shapes[0]))]


def _mean(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    kept_shape = tuple(1 if axis in node.op.axes else size for axis, size in enumerate(shapes[0]))
    count = torch.Size(shapes[0]).numel() // torch.Size(kept_shape).numel()
    return [(dy / count).view(kept_shape).expand(shapes[0])]


def _permute(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    back = sorted(range(len(node.op.axes)), key=lambda axis: node.op.axes[axis])
    return [dy.permute(back)]


def _slice(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    op = node.op
    return [_aten.slice_backward(dy, shapes[0], op.axis, op.start, op.stop, op.step)]


def _concat(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    pieces = dy.split([shape[node.op.axis] for shape in shapes], node.op.axis)
    return [piece if needed else None for piece, needed in zip(pieces, wanted, strict=True)]


def _pad(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    top, _, left, _ = node.op.padding
    row, column = (dy.dim() - node.op.behind - place for place in (2, 1))
    return [dy.narrow(row, top, shapes[0][row]).narrow(column, left, shapes[0][column])]


def _roll(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    return [dy.roll([-shift for shift in node.op.shifts], node.op.axes)]


def _masked(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    return [torch.where(kept[0], dy, 0.0) if kept else dy, None]


def _dropout(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    mask = keep.unpack_bits(kept[0], dy.shape, dy.dtype, w.layout)
    return [mask.mul_(dy).div_(1 - (node.op.p if w.training else 0.0))]


def _layer_norm(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    x = kept[0]
    axes = x.shape[-node.op.axes :]
    _, mean, inverse_deviation = torch.native_layer_norm(x, axes, None, None, node.op.epsilon)
    mask = (True, False, False)
    return [_aten.native_layer_norm_backward(dy, x, axes, mean, inverse_deviation, w.weight, w.bias, mask)[0]]


def _softmax(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    return [_aten._softmax_backward_data(dy, kept[0], node.op.axis, dy.dtype)]


def _matmul(node: Any, w: Weights, dy: Tensor, kept: list[Tensor], wanted: Wanted, shapes: Shapes) -> Grads:
    """For y = s a b: da = s dy b^T, db = s a^T dy; for y = s a b^T: da = s dy b, db = s dy^T a."""
    others, dy = iter(kept), dy * node.op.scale
    da = db = None
    if wanted[0]:
        b = next(others)
        da = dy @ (b if node.op.transpose_b else b.transpose(-2, -1))
    if wanted[1]:
        a = next(others)
        db = dy.transpose(-2, -1) @ a if node.op.transpose_b else a.transpose(-2, -1) @ dy
    return [
        gradient if gradient is None else elementwise.reduce_to(gradient, shape)
        for gradient, shape in zip((da, db), shapes, strict=True)
    ]


BACKWARD: dict[str, Callable[..., Grads]] = {
    "conv2d": _layer(linear.conv2d_input_grad),
    "linear": _layer(linear.linear_input_grad),
    "batch_norm": lambda node, w, dy, kept, wanted, shapes: [dy * per_channel(w.weight, dy)],
    "activation": _activation,
    "add": _add,
    "mul": _mul,
    "affine": lambda node, w, dy, kept, wanted, shapes: [dy * node.op.scale],
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "mean": _mean,
    "reshape": lambda node, w, dy, kept, wanted, shapes: [dy.reshape(shapes[0])],
    "permute": _permute,
    "slice": _slice,
    "expand": lambda node, w, dy, kept, wanted, shapes: [elementwise.reduce_to(dy, shapes[0])],
    "concat": _concat,
    "pad": _pad,
    "roll": _roll,
    "masked": _masked,
    "dropout": _dropout,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "matmul": _matmul,
}
