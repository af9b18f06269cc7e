"""The gradient of a trained slice, whatever the layer and its kernels."""

from torch import Tensor

from kilotune.graph.node import Conv2d, Linear
from kilotune.ops.linear import conv2d_live_grad, linear_live_grad
from kilotune.ops.slices import Slice
from kilotune.ops.taps import patterned_live_grad


def live_grad(op: Conv2d | Linear, piece: Slice, x: Tensor, dy: Tensor, sliced: bool) -> Tensor:
    """Gradient of the slice ``piece``, channel-major, from dL/dy and the input: its chosen channels if ``sliced``, else all."""
    if isinstance(op, Linear):
        return linear_live_grad(op, piece.chosen, piece.index, x, dy, sliced)
    if op.pattern is not None:
        return patterned_live_grad(op, piece, x, dy, sliced)
    return conv2d_live_grad(op, piece.chosen, piece.index, x, dy, sliced)
