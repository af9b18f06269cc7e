"""What is handed from forward to backward, in its smallest exact form: bits, window positions, channels."""

import torch
from torch import Tensor

# Byte j of a little-endian word holds one truth value; the product moves value j to bit 56 + j without carries.
_GATHER_BITS = 0x0102040810204080
_REPEAT_BYTE = 0x0101010101010101
_BIT_PER_BYTE = 0x8040201008040201 - (1 << 64)


def _in_order(values: Tensor, layout: torch.memory_format) -> Tensor:
    """The elements in one dimension, in the order they have in memory under ``layout``."""
    if layout is torch.channels_last and values.dim() == 4:
        return values.permute(0, 2, 3, 1).reshape(-1)
    return values.reshape(-1)


def pack_bits(mask: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """A boolean tensor of any shape as ``ceil(numel / 8)`` bytes, value i in bit ``i % 8`` of byte ``i // 8``."""
    flat = _in_order(mask, layout).view(torch.uint8)
    if flat.numel() % 8:
        flat = torch.cat([flat, flat.new_zeros(8 - flat.numel() % 8)])
    return ((flat.view(torch.int64) * _GATHER_BITS >> 56) & 0xFF).to(torch.uint8)


def unpack_bits(bits: Tensor, shape: torch.Size, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """The inverse of ``pack_bits``: a boolean tensor of ``shape``."""
    words = bits.to(torch.int64).mul_(_REPEAT_BYTE).bitwise_and_(_BIT_PER_BYTE)
    flat = words.view(torch.uint8)[: shape.numel()] != 0
    if layout is torch.channels_last and len(shape) == 4:
        n, c, h, w = shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(shape)


def pack_taps(indices: Tensor, size: tuple[int, int], op) -> Tensor:
    """Positions in the input plane ``(h, w)`` as positions in the pooling window, one byte each."""
    rows, columns = indices // size[1], indices % size[1]
    first_row, first_column = _window_starts(indices, op)
    tap_row = (rows - first_row) // op.dilation[0]
    tap_column = (columns - first_column) // op.dilation[1]
    return (tap_row * op.kernel[1] + tap_column).to(torch.uint8)


def unpack_taps(taps: Tensor, size: tuple[int, int], op) -> Tensor:
    """The inverse of ``pack_taps``."""
    taps = taps.to(torch.int64)
    first_row, first_column = _window_starts(taps, op)
    rows = first_row + taps // op.kernel[1] * op.dilation[0]
    columns = first_column + taps % op.kernel[1] * op.dilation[1]
    return rows * size[1] + columns


def _window_starts(like: Tensor, op) -> tuple[Tensor, Tensor]:
    rows = torch.arange(like.shape[-2], device=like.device).mul_(op.stride[0]).sub_(op.padding[0])
    columns = torch.arange(like.shape[-1], device=like.device).mul_(op.stride[1]).sub_(op.padding[1])
    return rows[:, None], columns
