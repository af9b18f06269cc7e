"""Element-wise operations and their derivatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.node import Activation

_aten = torch.ops.aten

_FORWARD = {
    "relu": lambda op, x, inplace: F.relu(x, inplace),
    "relu6": lambda op, x, inplace: F.hardtanh(x, 0.0, 6.0, inplace),
    "leaky_relu": lambda op, x, inplace: F.leaky_relu(x, op.slope, inplace),
    "hardsigmoid": lambda op, x, inplace: F.hardsigmoid(x, inplace),
    "hardswish": lambda op, x, inplace: F.hardswish(x, inplace),
    "silu": lambda op, x, inplace: F.silu(x, inplace),
    "gelu": lambda op, x, inplace: F.gelu(x),
    "gelu_tanh": lambda op, x, inplace: F.gelu(x, approximate="tanh"),
    "sigmoid": lambda op, x, inplace: x.sigmoid_() if inplace else x.sigmoid(),
    "tanh": lambda op, x, inplace: x.tanh_() if inplace else x.tanh(),
}

# One where the derivative has its upper value and zero elsewhere, read off the output y, by the backward kernel of the
# function itself applied to a gradient of ones.
_PASSES = {
    "relu": lambda one, y: _aten.threshold_backward(one, y, 0.0),
    "relu6": lambda one, y: _aten.hardtanh_backward(one, y, 0.0, 6.0),
    "leaky_relu": lambda one, y: _aten.threshold_backward(one, y, 0.0),
    "hardsigmoid": lambda one, y: _aten.hardtanh_backward(one, y, 0.0, 1.0),
}

# From dL/dy and the unpacked zeros and ones, which may be overwritten.
_MASKED_GRAD = {
    "relu": lambda op, dy, mask: mask.mul_(dy),
    "relu6": lambda op, dy, mask: mask.mul_(dy),
    "leaky_relu": lambda op, dy, mask: mask.mul_(1 - op.slope).add_(op.slope).mul_(dy),
    "hardsigmoid": lambda op, dy, mask: mask.mul_(dy).div_(6),
}

# From dL/dy and the kept input or output.
_SMOOTH_GRAD = {
    "hardswish": lambda dy, x: _aten.hardswish_backward(dy, x),
    "silu": lambda dy, x: _aten.silu_backward(dy, x),
    "gelu": lambda dy, x: _aten.gelu_backward(dy, x),
    "gelu_tanh": lambda dy, x: _aten.gelu_backward(dy, x, approximate="tanh"),
    "sigmoid": lambda dy, y: _aten.sigmoid_backward(dy, y),
    "tanh": lambda dy, y: _aten.tanh_backward(dy, y),
}


def activate(op: Activation, x: Tensor, inplace: bool = False) -> Tensor:
    """The function named by ``op``."""
    return _FORWARD[op.function](op, x, inplace)


def passes(op: Activation, y: Tensor) -> Tensor:
    """Ones where a piecewise linear function lets the gradient through, zeros elsewhere, from its output."""
    return _PASSES[op.function](y.new_ones(()).expand_as(y), y)


def masked_grad(op: Activation, dy: Tensor, mask: Tensor) -> Tensor:
    """dL/dx of a piecewise linear function."""
    return _MASKED_GRAD[op.function](op, dy, mask)


def smooth_grad(op: Activation, dy: Tensor, kept: Tensor) -> Tensor:
    """dL/dx of a smooth function from its kept input or output."""
    return _SMOOTH_GRAD[op.function](dy, kept)


def reduce_to(gradient: Tensor, size: tuple[int, ...]) -> Tensor:
    """Sum a gradient over the axes along which its value was broadcast."""
    return gradient if tuple(gradient.shape) == tuple(size) else gradient.sum_to_size(size)
