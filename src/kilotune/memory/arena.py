"""Where every buffer goes: offsets in one arena, no two live buffers overlapping, as few bytes as a short search finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kilotune.memory.buffer import Buffer, live_bytes
from kilotune.rng import Pcg32

MOST_MOVES = 100
"""Steps of the search where no greedy order reaches the lower bound."""


@dataclass(frozen=True)
class Arena:
    """Buffers and their offsets, bytes."""

    buffers: tuple[Buffer, ...]
    offsets: tuple[int, ...]
    n_steps: int

    @cached_property
    def extent(self) -> np.ndarray:
        """First byte above all buffers alive at each step (steps,)."""
        extent = np.zeros(self.n_steps, dtype=np.int64)
        for buffer, offset in zip(self.buffers, self.offsets, strict=True):
            span = slice(buffer.first, buffer.last + 1)
            extent[span] = np.maximum(extent[span], offset + buffer.nbytes)
        return extent

    @cached_property
    def live(self) -> np.ndarray:
        """Bytes alive at each step (steps,); no arena can have a smaller extent."""
        return live_bytes(self.buffers, self.n_steps)

    @property
    def nbytes(self) -> int:
        """Size of the arena."""
        return int(self.extent.max(initial=0))

    @property
    def lower_bound(self) -> int:
        """Most bytes alive at one step; no arena is smaller."""
        return int(self.live.max(initial=0))


def pack(buffers: Sequence[Buffer], n_steps: int, above: np.ndarray | None = None) -> Arena:
    """A place for each buffer, such that the fullest step is as small as a short search gets it, ``above`` included.

    above: bytes at each step (steps,) that will lie above the buffers then. Buffers are placed one after the other, each at
    the lowest offset that is free for its whole life, in the orders of ``_ORDERS``. Where none reaches the lower bound,
    buffers that stick out are placed earlier, as long as that does no harm: ``MOST_MOVES`` moves, the same ones every time.
    """
    if not buffers:
        return Arena((), (), n_steps)
    packing = _Packing(buffers, n_steps, np.zeros(n_steps, dtype=np.int64) if above is None else above)
    best = min((packing.place(packing.sorted(order)) for order in _ORDERS), key=lambda placed: placed.score)
    return Arena(packing.buffers, tuple(start for start, _ in packing.search(best).spots), n_steps)


_Spot = tuple[int, int]
"""First byte of a buffer and the first one behind it."""


class _Placed(NamedTuple):
    """Buffers were placed in ``order``. score: bytes of the fullest step, then the sum of the extents."""

    spots: list[_Spot]
    order: list[int]
    score: tuple[int, int]


class _Packing:
    def __init__(self, buffers: Sequence[Buffer], n_steps: int, above: np.ndarray):
        self.buffers, self.n_steps, self.above = tuple(buffers), n_steps, above
        self.sizes = [buffer.nbytes for buffer in buffers]
        first, last = (np.array([getattr(b, name) for b in buffers], dtype=np.int64) for name in ("first", "last"))
        together = (first[:, None] <= last) & (first <= last[:, None])
        self.neighbours = [np.flatnonzero(row).tolist() for row in together]
        self.alive = (first[:, None] <= np.arange(n_steps)) & (np.arange(n_steps) <= last[:, None])
        bytes_at = live_bytes(self.buffers, n_steps) + above
        self.fullest, self.lower_bound = int(bytes_at.argmax()), int(bytes_at.max())
        self.limits = [self.lower_bound - int(above[b.first : b.last + 1].max()) for b in buffers]

    def sorted(self, order: "_Order") -> list[int]:
        """Buffers by an order of ``_ORDERS``, equal ones by time, size and name."""
        last = [(b.first, -b.nbytes, b.name) for b in self.buffers]
        return sorted(range(len(last)), key=lambda i: (order(self.buffers[i], self), *last[i]))

    def place(self, order: list[int]) -> _Placed:
        """Each buffer in turn at the lowest offset that is free for its whole life."""
        spots: list[_Spot | None] = [None] * len(order)
        for current in order:
            spots[current] = self._lowest(current, spots)
        return self._scored(spots, order)

    def _lowest(self, current: int, spots: list[_Spot | None]) -> _Spot:
        taken = sorted(filter(None, [spots[other] for other in self.neighbours[current]]))
        offset = _lowest_gap(taken, self.sizes[current])
        return offset, offset + self.sizes[current]

    def _scored(self, spots: list[_Spot | None], order: list[int]) -> _Placed:
        placed = [spot for spot in spots if spot]
        extent = np.where(self.alive, np.array([end for _, end in placed])[:, None], 0).max(axis=0)
        return _Placed(placed, order, (int((extent + self.above).max()), int(extent.sum())))

    def move(self, order: list[int], now: _Placed) -> _Placed:
        """Placed in another order; ``now`` as soon as it is seen that the fullest step would be fuller.

        As far as the orders are the same, so are the places.
        """
        same = next((place for place, (a, b) in enumerate(zip(order, now.order, strict=True)) if a != b), len(order))
        spots: list[_Spot | None] = [None] * len(order)
        for kept in order[:same]:
            spots[kept] = now.spots[kept]
        room = now.score[0] - self.lower_bound
        for current in order[same:]:
            spot = spots[current] = self._lowest(current, spots)
            if spot[1] > self.limits[current] + room:
                return now
        return self._scored(spots, order)

    def search(self, start: _Placed) -> _Placed:
        """The best placement seen on a walk from ``start`` whose score never rises."""
        best = now = start
        rng = Pcg32(0)
        for _ in range(MOST_MOVES):
            high = self._sticking_out(now)
            if not high:
                break
            now = self.move(self._earlier(now, high[rng.below(len(high))], rng), now)
            best = min(best, now, key=lambda placed: placed.score)
        return best

    def _sticking_out(self, placed: _Placed) -> list[int]:
        """Buffers because of which some step exceeds the lower bound."""
        return [i for i, (spot, limit) in enumerate(zip(placed.spots, self.limits, strict=True)) if spot[1] > limit]

    def _earlier(self, placed: _Placed, chosen: int, rng: Pcg32) -> list[int]:
        """The order with a buffer before one of those below it."""
        spots, order = placed.spots, placed.order
        below = [i for i in self.neighbours[chosen] if spots[i][0] < spots[chosen][0]]
        if not below:
            return order
        other = below[rng.below(len(below))]
        rest = [i for i in order if i != chosen]
        place = rest.index(other)
        return [*rest[:place], chosen, *rest[place:]]


_Order = Callable[[Buffer, _Packing], tuple]


def _by_size(buffer: Buffer, packing: _Packing) -> tuple:
    return (-buffer.nbytes,)


def _long_lived_first(buffer: Buffer, packing: _Packing) -> tuple:
    """Masks below everything else, both by size."""
    return buffer.last - buffer.first < packing.n_steps // 8, -buffer.nbytes


def _by_birth(buffer: Buffer, packing: _Packing) -> tuple:
    """Masks as a stack below everything else."""
    return (buffer.kind != "mask", buffer.first)


def _by_life(buffer: Buffer, packing: _Packing) -> tuple:
    return buffer.first - buffer.last, -buffer.nbytes


def _fullest_first(buffer: Buffer, packing: _Packing) -> tuple:
    """What is alive at the fullest step lies below everything else, without a gap."""
    return not buffer.first <= packing.fullest <= buffer.last, buffer.first - buffer.last, -buffer.nbytes


_ORDERS: tuple[_Order, ...] = (_by_size, _long_lived_first, _by_birth, _by_life, _fullest_first)


def _lowest_gap(taken: list[tuple[int, int]], nbytes: int) -> int:
    offset = 0
    for start, end in taken:
        if start - offset >= nbytes:
            return offset
        if end > offset:
            offset = end
    return offset
