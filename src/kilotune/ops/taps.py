"""Weight gradient of kernels with patterns: one sum for every tap that there is, none for the others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.node import Conv2d
from kilotune.ops.slices import Slice


def patterned_live_grad(op: Conv2d, piece: Slice, x: Tensor, dy: Tensor, sliced: bool) -> Tensor:
    """Gradient of a trained slice of patterned kernels, channel-major: (k, o/groups, t) on axis "in", (k, c/groups, t) on "out".

    dL/dW[o,c,i,j] = sum over n, h', w' of dy[n,o,h',w'] x[n,c,s h' + d i - p, s w' + d j - p] for the taps (i, j) of the kernel's
    pattern. x: the chosen channels only if ``sliced``, else the whole input.
    """
    assert piece.taps is not None
    top, bottom, left, right = op.padding
    padded = F.pad(x, (left, right, top, bottom))
    inputs, outputs = _pairs(op, piece, sliced)
    flat = piece.taps.flatten(0, 1)
    grad = dy.new_empty(flat.shape)
    height, width = (
        (size - 1) * stride + 1 for size, stride in zip(dy.shape[2:], op.stride, strict=True)
    )  # of the window over the input that one tap sees
    for tap in range(op.weight_shape[2] * op.weight_shape[3]):
        row, column = (place * step for place, step in zip(divmod(tap, op.weight_shape[3]), op.dilation, strict=True))
        pair, place = (flat == tap).nonzero(as_tuple=True)
        seen = padded[:, :, row : row + height : op.stride[0], column : column + width : op.stride[1]]
        grad[pair, place] = torch.einsum("nkhw,nkhw->k", seen[:, inputs[pair]], dy[:, outputs[pair]])
    return grad.view(piece.taps.shape)


def _pairs(op: Conv2d, piece: Slice, sliced: bool) -> tuple[Tensor, Tensor]:
    """For every trained kernel, in the order of the slice: its channel in the input that was kept, and its output channel."""
    assert piece.taps is not None
    per_group_in, per_group_out = op.weight_shape[1], op.weight_shape[0] // op.groups
    kernels = torch.arange(piece.taps.shape[1], device=piece.index.device)
    if piece.chosen.axis == "out":
        chosen = piece.index.view(-1, 1)
        inputs, outputs = chosen // per_group_out * per_group_in + kernels, chosen.expand(-1, len(kernels))
    else:
        inputs = piece.index.view(-1, 1).expand(-1, len(kernels))
        outputs = inputs // per_group_in * per_group_out + kernels
    if sliced:  # the kept channels lie side by side
        inputs = torch.arange(len(piece.index), device=piece.index.device).view(-1, 1).expand(-1, len(kernels))
    return inputs.flatten(), outputs.flatten()
