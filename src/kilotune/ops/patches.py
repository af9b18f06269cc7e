"""Gradient filtering (arXiv 2301.00330): sums of the input over patches are kept; both gradients are as of a coarser map."""

from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.node import Conv2d
from kilotune.graph.ways import Filtered
from kilotune.ops.linear import conv2d_input_grad
from kilotune.ops.place import Place


def patch_sums(x: Tensor, place: Place) -> list[Tensor]:
    """Sum over each patch of the input, (n, c, ph, pw): patches of r s x r s positions, zeros around them."""
    op, patch = _op(place), _patch(place)
    height, width = patch * op.stride[0], patch * op.stride[1]
    grid = _grid(place.compressed.modes.output_hw, patch)
    x = place.cut(x)
    x = F.pad(x, _margins(x.shape[2:], (grid[0] * height, grid[1] * width)))
    return [F.avg_pool2d(x, (height, width), divisor_override=1).contiguous()]


def patch_means(dy: Tensor, patch: int) -> Tensor:
    """Mean of the gradient over the positions of each patch that exist, (n, o, ph, pw)."""
    grid = _grid(dy.shape[2:], patch)
    margins = _margins(dy.shape[2:], (grid[0] * patch, grid[1] * patch))
    sums = F.avg_pool2d(F.pad(dy, margins), patch, divisor_override=1)
    return sums / F.avg_pool2d(F.pad(dy.new_ones(1, 1, *dy.shape[2:]), margins), patch, divisor_override=1)


def patch_weight_grad(place: Place, parts: list[Tensor], dy: Tensor) -> Tensor:
    """The product of both on the coarse map, the same at every tap of the kernel."""
    op = _op(place)
    coarse = _coarse(op, _patch(place))
    grad = place.live_grad(parts[0], patch_means(dy, _patch(place)), coarse)
    if coarse.weight_shape != op.weight_shape:
        grad = grad.expand(*grad.shape[:2], *op.weight_shape[2:])
    return place.slice.pick(grad)


def patch_input_grad(place: Place, weight: Tensor | None, dy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """dL/dx of the coarse map, with the kernel summed over its taps; the same at every position of a patch."""
    assert weight is not None
    op, patch = _op(place), _patch(place)
    coarse, means = _coarse(op, patch), patch_means(dy, patch)
    kernel = weight if coarse.weight_shape == op.weight_shape else weight.sum((2, 3), keepdim=True)
    dx = conv2d_input_grad(coarse, kernel, means, (shape[0], shape[1], *means.shape[2:]))
    height, width = patch * op.stride[0], patch * op.stride[1]
    dx = dx.repeat_interleave(height, 2).repeat_interleave(width, 3)
    return F.pad(dx, [-margin for margin in _margins(shape[2:], dx.shape[2:])])


def _coarse(op: Conv2d, patch: int) -> Conv2d:
    """The convolution between the maps of patches: 1x1, or the kernel itself where its dilation reaches other patches."""
    op = replace(op, pattern=None)
    if min(op.dilation) < patch:
        return replace(op, weight_shape=(*op.weight_shape[:2], 1, 1), stride=(1, 1), padding=(0,) * 4, dilation=(1, 1))
    dilation = (op.dilation[0] // patch, op.dilation[1] // patch)
    reach = [step * (size - 1) for step, size in zip(dilation, op.weight_shape[2:], strict=True)]
    padding = (reach[0] // 2, reach[0] - reach[0] // 2, reach[1] // 2, reach[1] - reach[1] // 2)
    return replace(op, stride=(1, 1), padding=padding, dilation=dilation)


def _margins(inner: Sequence[int], outer: Sequence[int]) -> list[int]:
    """(left, right, top, bottom) from one size to the other, negative to cut; what is odd goes to the top and the left."""
    rows, columns = (size - other for size, other in zip(outer, inner, strict=True))
    top, left = -(-rows // 2), -(-columns // 2)
    return [left, columns - left, top, rows - top]


def _grid(output_hw: Sequence[int], patch: int) -> tuple[int, int]:
    return -(-output_hw[0] // patch), -(-output_hw[1] // patch)


def _op(place: Place) -> Conv2d:
    assert isinstance(place.op, Conv2d)  # check_plan has seen that it is one
    return place.op


def _patch(place: Place) -> int:
    assert isinstance(place.way, Filtered)
    return place.way.patch
