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

# Where the derivative is its upper value, read off the output.
_PASSES = {
    "relu": lambda y: y > 0,
    "relu6": lambda y: (y > 0).logical_and_(y < 6),
    "leaky_relu": lambda y: y > 0,
    "hardsigmoid": lambda y: (y > 0).logical_and_(y < 1),
}

# From dL/dy and the unpacked bits.
_MASKED_GRAD = {
    "relu": lambda op, dy, mask: dy * mask,
    "relu6": lambda op, dy, mask: dy * mask,
    "leaky_relu": lambda op, dy, mask: torch.where(mask, dy, dy * op.slope),
    "hardsigmoid": lambda op, dy, mask: dy * mask / 6,
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
    """Boolean: where a piecewise linear function lets the gradient through, from its output."""
    return _PASSES[op.function](y)


def masked_grad(op: Activation, dy: Tensor, mask: Tensor) -> Tensor:
    """dL/dx of a piecewise linear function."""
    return _MASKED_GRAD[op.function](op, dy, mask)


def smooth_grad(op: Activation, dy: Tensor, kept: Tensor) -> Tensor:
    """dL/dx of a smooth function from its kept input or output."""
    return _SMOOTH_GRAD[op.function](dy, kept)


def reduce_to(gradient: Tensor, size: tuple[int, ...]) -> Tensor:
    """Sum a gradient over the axes along which its value was broadcast."""
    return gradient if tuple(gradient.shape) == tuple(size) else gradient.sum_to_size(size)
