"""Kept inputs as rows of numbers, one per channel: few bits each, or the largest of them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.ways import Pruned, Quantised
from kilotune.ops.keep import pack_bits, unpack_bits
from kilotune.ops.place import Place

Parts = list[Tensor]


def _rows(x: Tensor, place: Place) -> Tensor:
    """(c, everything else), a copy where it must be."""
    return x.movedim(place.channel_axis, 0).flatten(1)


def _from_rows(rows: Tensor, place: Place, n: int) -> Tensor:
    """The inverse of ``_rows`` at ``n`` samples."""
    sizes = list(place.compressed.modes.at(n, place.compressed.channels))
    channels = sizes.pop(place.channel_axis)
    return rows.reshape(channels, *sizes).movedim(0, place.channel_axis)


def _padded(rows: Tensor, multiple: int) -> Tensor:
    missing = -rows.shape[1] % multiple
    return F.pad(rows, (0, missing)) if missing else rows


def quantise(x: Tensor, place: Place) -> Parts:
    """Whole numbers of 8 or 4 bits, symmetric around 0, rounded up or down at random so that their mean is right;
    and the scale of each channel."""
    way = place.way
    assert isinstance(way, Quantised)
    largest = (1 << (way.bits - 1)) - 1
    rows = _rows(place.cut(x), place)
    scale = torch.linalg.vector_norm(rows, torch.inf, dim=1).div_(largest).float()
    steps = torch.where(scale > 0, scale, 1)[:, None].to(rows.dtype)
    whole = place.memory.noise(rows).addcdiv_(rows, steps).floor_().clamp_(-largest, largest).to(torch.int8)
    del rows
    whole = _padded(whole, 32 // way.bits)
    if way.bits == 4:
        whole = (whole[:, ::2] & 15) | (whole[:, 1::2] << 4)
    return [whole.contiguous(), scale]


def dequantise(parts: Parts, place: Place, dy: Tensor) -> Tensor:
    """Numbers times scales."""
    whole, scale = parts
    n = place.samples(dy)
    if place.way.name == "int4":
        # Shifting left and back again extends the sign of the low half.
        whole = torch.stack([(whole << 4) >> 4, whole >> 4], 2).flatten(1)
    rows = whole[:, : place.compressed.modes.positions(n)].to(dy.dtype).mul_(scale[:, None].to(dy.dtype))
    return _from_rows(rows, place, n)


def prune(x: Tensor, place: Place) -> Parts:
    """The largest values of all channels together in their order, and a bit per position (Back Razor, section 3.2).

    Of equally large ones the first, so that every machine keeps the same.
    """
    way = place.way
    assert isinstance(way, Pruned)
    rows = _rows(place.cut(x), place).contiguous()
    count = rows.shape[0] * way.values(rows.shape[1])
    mask = _largest(rows.flatten(), count)
    bits = pack_bits(_padded(mask.view(rows.shape).to(torch.float32), 32))
    return [rows.flatten()[mask], bits]


def _largest(values: Tensor, count: int) -> Tensor:
    """Which are the ``count`` largest in magnitude."""
    magnitudes = values.abs()
    least = magnitudes.topk(count, sorted=False).values.min()
    mask, equal = magnitudes > least, magnitudes == least
    del magnitudes
    places = equal.cumsum(0, dtype=torch.int32)
    return mask.logical_or_(equal.logical_and_(places <= count - mask.sum()))


def unprune(parts: Parts, place: Place, dy: Tensor) -> Tensor:
    """Values where they were, zeros elsewhere."""
    values, bits = parts
    n, channels = place.samples(dy), place.compressed.channels
    positions = place.compressed.modes.positions(n)
    width = positions + -positions % 32
    mask = unpack_bits(bits, torch.Size((channels, width)), dy.dtype)[:, :positions] > 0
    rows = torch.zeros(channels, positions, dtype=dy.dtype, device=dy.device)
    return _from_rows(rows.masked_scatter_(mask, values), place, n)
