"""What is handed from forward to backward, in its smallest exact form: bits, window positions, channels."""

from functools import cache

import torch
from torch import Tensor

from kilotune.graph.node import MaxPool


def _in_order(values: Tensor, layout: torch.memory_format) -> Tensor:
    """The elements in one dimension, in the order they have in memory under ``layout``."""
    if layout is torch.channels_last and values.dim() == 4:
        return values.permute(0, 2, 3, 1).reshape(-1)
    return values.reshape(-1)


@cache
def _powers_of_two(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=dtype, device=device)


@cache
def _bits_of_bytes(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(256, 8): the bits of every byte, lowest first."""
    return (torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device) & 1).to(dtype)


def pack_bits(mask: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """A tensor of zeros and ones, of any shape and float type, as ``ceil(numel / 8)`` bytes.

    Value i, in memory order, is bit ``i % 8`` of byte ``i // 8``. The product with powers of two is exact and, unlike
    comparisons and shifts, runs vectorised on every device.
    """
    flat = _in_order(mask, layout)
    if flat.numel() % 8:
        flat = torch.cat([flat, flat.new_zeros(8 - flat.numel() % 8)])
    return torch.mv(flat.view(-1, 8), _powers_of_two(flat.dtype, flat.device)).to(torch.uint8)


def unpack_bits(
    bits: Tensor, shape: torch.Size, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """The inverse of ``pack_bits``: zeros and ones of ``shape``, fresh memory."""
    flat = _bits_of_bytes(dtype, bits.device).index_select(0, bits.to(torch.int32)).view(-1)[: shape.numel()]
    if layout is torch.channels_last and len(shape) == 4:
        n, c, h, w = shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(shape)


def cut_channels(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """A copy of the channels ``index`` along ``axis``, in the memory layout of ``x``."""
    if axis == 1 and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(3, index).permute(0, 3, 1, 2)
    return x.index_select(axis, index)


def pack_taps(indices: Tensor, width: int, op: MaxPool) -> Tensor:
    """Positions in an input plane of ``width`` columns as positions in the pooling window, one byte each."""
    rows, columns = indices // width, indices % width
    first_row, first_column = _window_starts(indices, op)
    tap_row = (rows - first_row) // op.dilation[0]
    tap_column = (columns - first_column) // op.dilation[1]
    return (tap_row * op.kernel[1] + tap_column).to(torch.uint8)


def unpack_taps(taps: Tensor, width: int, op: MaxPool) -> Tensor:
    """The inverse of ``pack_taps``."""
    taps = taps.to(torch.int64)
    first_row, first_column = _window_starts(taps, op)
    rows = first_row + taps // op.kernel[1] * op.dilation[0]
    columns = first_column + taps % op.kernel[1] * op.dilation[1]
    return rows * width + columns


def _window_starts(like: Tensor, op: MaxPool) -> tuple[Tensor, Tensor]:
    rows = torch.arange(like.shape[-2], device=like.device).mul_(op.stride[0]).sub_(op.padding[0])
    columns = torch.arange(like.shape[-1], device=like.device).mul_(op.stride[1]).sub_(op.padding[1])
    return rows[:, None], columns
