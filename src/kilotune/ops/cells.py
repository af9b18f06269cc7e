"""Kept inputs as a few positions of every cell of 2 x 2, the same ones all over a channel: a pattern, stored as its number."""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.ways import Patterned
from kilotune.ops.place import Place

Parts = list[Tensor]


def keep_pattern(x: Tensor, place: Place) -> Parts:
    """Of each channel the positions of the pattern that holds most of its energy, and the number of that pattern."""
    cells = _to_cells(place.cut(x))
    energy = cells.square().sum(1)
    patterns = _patterns(place, x.device)
    numbers = energy[:, patterns].sum(2).argmax(1)
    return [cells.gather(2, _positions(patterns, numbers, cells)), numbers.to(torch.int32)]


def restore_pattern(parts: Parts, place: Place, dy: Tensor) -> Tensor:
    """Values where they were, zeros elsewhere."""
    values, numbers = parts
    height, width = place.compressed.modes.sizes[2:]
    zeros = values.new_zeros(*values.shape[:2], 4)
    cells = zeros.scatter_(2, _positions(_patterns(place, dy.device), numbers.long(), values), values)
    rows, columns = -(-height // 2), -(-width // 2)
    planes = (
        cells.view(len(values), -1, rows, columns, 2, 2).transpose(3, 4).reshape(len(values), -1, 2 * rows, 2 * columns)
    )
    return planes[..., :height, :width].transpose(0, 1)


def _to_cells(x: Tensor) -> Tensor:
    """(n,c,h,w) as (c, cells, 4), zeros beyond an odd edge."""
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)).transpose(0, 1)
    return x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).transpose(3, 4).flatten(4).flatten(1, 3)


def _patterns(place: Place, device: torch.device) -> Tensor:
    """All choices of ``taps`` positions of a cell (patterns, taps)."""
    assert isinstance(place.way, Patterned)
    return torch.tensor(list(combinations(range(4), place.way.taps)), device=device)


def _positions(patterns: Tensor, numbers: Tensor, like: Tensor) -> Tensor:
    """(c, cells, taps): where the values of each channel lie in a cell."""
    return patterns[numbers][:, None].expand(-1, like.shape[1], -1)
