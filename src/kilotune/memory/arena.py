"""Where every buffer goes: offsets in one arena, largest buffer first, no two live buffers overlapping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kilotune.memory.lifetime import Buffer


@dataclass(frozen=True)
class Arena:
    """Buffers and their offsets, bytes."""

    buffers: tuple[Buffer, ...]
    offsets: tuple[int, ...]
    n_steps: int

    @property
    def extent(self) -> np.ndarray:
        """First byte above all buffers alive at each step (steps,)."""
        extent = np.zeros(self.n_steps, dtype=np.int64)
        for buffer, offset in zip(self.buffers, self.offsets, strict=True):
            span = slice(buffer.first, buffer.last + 1)
            extent[span] = np.maximum(extent[span], offset + buffer.nbytes)
        return extent

    @property
    def live(self) -> np.ndarray:
        """Bytes alive at each step (steps,); no arena can have a smaller extent."""
        live = np.zeros(self.n_steps, dtype=np.int64)
        for buffer in self.buffers:
            live[buffer.first : buffer.last + 1] += buffer.nbytes
        return live

    @property
    def nbytes(self) -> int:
        """Size of the arena."""
        return int(self.extent.max(initial=0))


def pack(buffers: Sequence[Buffer], n_steps: int) -> Arena:
    """Greedy by size: each buffer at the lowest offset that is free for its whole life.

    Tried with the long-lived buffers (masks) among the others and before them; the smaller arena wins, and between equal
    ones that with the lower extents, which leave more room for the stack of kept channels.
    """
    long_lived = n_steps // 8
    arenas = [
        _place(buffers, n_steps, lambda b: (-b.nbytes, b.first, b.name)),
        _place(buffers, n_steps, lambda b: (b.last - b.first < long_lived, -b.nbytes, b.first, b.name)),
    ]
    return min(arenas, key=lambda arena: (arena.nbytes, int(arena.extent.sum())))


def _place(buffers: Sequence[Buffer], n_steps: int, key: Callable[[Buffer], tuple]) -> Arena:
    offsets: dict[int, int] = {}
    for current in sorted(range(len(buffers)), key=lambda i: key(buffers[i])):
        taken = sorted(
            (offsets[other], offsets[other] + buffers[other].nbytes)
            for other in offsets
            if buffers[other].overlaps(buffers[current])
        )
        offsets[current] = _lowest_gap(taken, buffers[current].nbytes)
    return Arena(tuple(buffers), tuple(offsets[i] for i in range(len(buffers))), n_steps)


def _lowest_gap(taken: list[tuple[int, int]], nbytes: int) -> int:
    offset = 0
    for start, end in taken:
        if start - offset >= nbytes:
            return offset
        offset = max(offset, end)
    return offset
