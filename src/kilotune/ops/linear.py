"""Convolution and linear layers: forward, input gradient, and the weight gradient of some channels only."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.node import Conv2d, Linear
from kilotune.ops.keep import cut_channels
from kilotune.update_plan import ChannelSet

_conv_backward = torch.ops.aten.convolution_backward.default


def _is_even(padding: tuple[int, int, int, int]) -> bool:
    return padding[0] == padding[1] and padding[2] == padding[3]


def _pad(op: Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """``x`` and the padding left to the convolution; uneven padding is written out."""
    top, bottom, left, right = op.padding
    if _is_even(op.padding):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def _is_matrix_product(op: Conv2d, dy: Tensor) -> bool:
    """Whether the convolution is a linear layer on every pixel and the pixels lie one after another in memory."""
    pointwise = op.weight_shape[2:] == (1, 1) == op.stride and op.padding == (0, 0, 0, 0) and op.groups == 1
    return pointwise and dy.is_contiguous(memory_format=torch.channels_last)


def _pixels(x: Tensor) -> Tensor:
    """(n,c,h,w) as (n h w, c)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def conv2d(op: Conv2d, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """``(n,c,h,w) -> (n,o,h',w')``."""
    x, padding = _pad(op, x)
    return F.conv2d(x, weight, bias, op.stride, padding, op.dilation, op.groups)


def conv2d_input_grad(op: Conv2d, weight: Tensor, dy: Tensor, size: tuple[int, ...]) -> Tensor:
    """dL/dx (n,c,h,w) from dL/dy (n,o,h',w'); needs the weight, never the input."""
    if _is_matrix_product(op, dy):
        n, c, h, w = size
        return (_pixels(dy) @ weight.flatten(1)).view(n, h, w, c).permute(0, 3, 1, 2)
    top, bottom, left, right = op.padding
    padding = (top, left)
    if not _is_even(op.padding):
        n, c, h, w = size
        size, padding = (n, c, h + top + bottom, w + left + right), (0, 0)
    x = dy.new_empty(1).expand(size)
    dx = _conv_backward(
        dy, x, weight, None, op.stride, padding, op.dilation, False, (0, 0), op.groups, (True, False, False)
    )[0]
    if not _is_even(op.padding):
        dx = dx[:, :, top : dx.shape[2] - bottom, left : dx.shape[3] - right]
    return dx


def conv2d_weight_grad(op: Conv2d, x: Tensor, dy: Tensor, shape: tuple[int, ...], groups: int) -> Tensor:
    """dL/dW of ``shape`` (o, c/groups, kh, kw) from the input (n,c,h,w) and dL/dy (n,o,h',w')."""
    x, padding = _pad(op, x)
    weight = dy.new_empty(1).expand(shape)
    return _conv_backward(
        dy, x, weight, None, op.stride, padding, op.dilation, False, (0, 0), groups, (False, True, False)
    )[1]


def conv2d_live_grad(op: Conv2d, chosen: ChannelSet, index: Tensor, x: Tensor, dy: Tensor, sliced: bool) -> Tensor:
    """Gradient of a trained slice, channel-major: (k, o/groups, kh, kw) on axis "in", (k, c/groups, kh, kw) on axis "out".

    x: the chosen channels only if ``sliced``, else the whole input.
    """
    rows = op.weight_shape[0]
    k, kernel = len(index), op.weight_shape[2:]
    if op.groups == 1:
        if chosen.axis == "out":
            dy = dy if k == rows else cut_channels(dy, 1, index)
            if _is_matrix_product(op, dy):
                return (_pixels(dy).T @ _pixels(x)).view(k, -1, 1, 1)
            return conv2d_weight_grad(op, x, dy, (k, x.shape[1], *kernel), 1)
        x = x if sliced or k == x.shape[1] else cut_channels(x, 1, index)
        if _is_matrix_product(op, dy):
            return (_pixels(x).T @ _pixels(dy)).view(k, rows, 1, 1)
        return conv2d_weight_grad(op, x, dy, (rows, k, *kernel), 1).transpose(0, 1)
    return _grouped_live_grad(op, chosen, index, x, dy, sliced)


def _grouped_live_grad(op: Conv2d, chosen: ChannelSet, index: Tensor, x: Tensor, dy: Tensor, sliced: bool) -> Tensor:
    """Each chosen channel becomes a group of its own: one input channel, or one output neuron with its inputs."""
    k, kernel = len(index), op.weight_shape[2:]
    per_group_in, per_group_out = op.weight_shape[1], op.weight_shape[0] // op.groups
    if chosen.axis == "out":
        inputs = x if sliced else _unfold_groups(x, op.groups).index_select(1, index // per_group_out).flatten(1, 2)
        outputs = cut_channels(dy, 1, index)
        return conv2d_weight_grad(op, inputs, outputs, (k, per_group_in, *kernel), k)
    inputs = x if sliced or k == x.shape[1] else cut_channels(x, 1, index)
    if per_group_out == 1:
        outputs = cut_channels(dy, 1, index // per_group_in)
    else:
        outputs = _unfold_groups(dy, op.groups).index_select(1, index // per_group_in).flatten(1, 2)
    grad = conv2d_weight_grad(op, inputs, outputs, (k * per_group_out, 1, *kernel), k)
    return grad.view(k, per_group_out, *kernel)


def _unfold_groups(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, x.shape[1] // groups))


def linear_input_grad(op: Linear, weight: Tensor, dy: Tensor, size: tuple[int, ...]) -> Tensor:
    """dL/dx (..., c) from dL/dy (..., o)."""
    return (dy.reshape(-1, dy.shape[-1]) @ weight).view(size)


def linear_live_grad(op: Linear, chosen: ChannelSet, index: Tensor, x: Tensor, dy: Tensor, sliced: bool) -> Tensor:
    """Gradient of a trained slice, channel-major: (k, o) on axis "in", (k, c) on axis "out"."""
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    if chosen.axis == "out":
        return dy.index_select(1, index).T @ x
    x = x if sliced or len(index) == x.shape[1] else x.index_select(1, index)
    return x.T @ dy


def bias_grad(kind: str, dy: Tensor) -> Tensor:
    """dL/db (o,): the sum of dL/dy over everything but the output channel."""
    return dy.sum((0, 2, 3)) if kind == "conv2d" else dy.reshape(-1, dy.shape[-1]).sum(0)
