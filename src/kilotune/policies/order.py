"""Orders on channels, lazily: integer arithmetic on the portable generator, so that C makes the same draws."""

from collections.abc import Iterator, Sequence

import numpy as np

from kilotune.rng import Pcg32

WEIGHT_SCALE = 65535
"""Largest integer weight, fewer where the sum of all would not fit 32 bits."""


def shuffled(ids: Sequence[int] | np.ndarray, rng: Pcg32) -> Iterator[int]:
    """``ids`` in a uniform order; each one taken costs one ``rng.below`` (Fisher-Yates from the first place up)."""
    order = [int(channel) for channel in ids]
    for place in range(len(order)):
        other = place + rng.below(len(order) - place)
        order[place], order[other] = order[other], order[place]
        yield order[place]


def weighted(ids: Sequence[int] | np.ndarray, weights: np.ndarray, rng: Pcg32) -> Iterator[int]:
    """``ids`` by successive sampling without replacement, each next one with probability proportional to its weight.

    With the weights made integers by ``quantised`` and ``r = rng.below(sum of the remaining ones)``, the next channel
    is the first one, in the order of ``ids``, at which the running sum of the remaining weights exceeds ``r``.
    (MeDyate, algorithm 1.)
    """
    tree = _PrefixSums(quantised(weights).tolist())
    while tree.total:
        yield int(ids[tree.take(rng.below(tree.total))])


def descending(ids: Sequence[int] | np.ndarray, score: np.ndarray) -> np.ndarray:
    """``ids`` by falling score, ties in the order given."""
    return np.asarray(ids)[np.argsort(-np.asarray(score), kind="stable")]


def quantised(weights: np.ndarray) -> np.ndarray:
    """Non-negative weights as integers from 1: ``max(1, rint(w / max * scale))``, each operation in float32.

    In C: ``lrintf(w / max * scale)`` (half to even) with ``float`` operands. All ones where no weight is positive.
    """
    weights = np.asarray(weights, dtype=np.float32)
    largest = weights.max(initial=np.float32(0))
    if largest == 0:
        return np.ones(len(weights), dtype=np.int64)
    scale = np.float32(min(WEIGHT_SCALE, (2**32 - 1) // len(weights)))
    return np.maximum(1, np.rint(weights / largest * scale)).astype(np.int64)


class _PrefixSums:
    """A Fenwick tree over integer weights: find a place by running sum and remove it in O(log n)."""

    def __init__(self, weights: list[int]):
        self._weights = weights
        self._top = 1 << len(weights).bit_length()
        self._tree = [0, *weights, *([0] * (self._top - len(weights)))]
        for place in range(1, self._top):
            parent = place + (place & -place)
            self._tree[parent] += self._tree[place]
        self.total = sum(weights)

    def take(self, rest: int) -> int:
        """Remove and return the first place at which the running sum exceeds ``rest``."""
        tree, place, step = self._tree, 0, self._top >> 1
        while step:
            if tree[place + step] <= rest:
                place += step
                rest -= tree[place]
            step >>= 1
        weight, node = self._weights[place], place + 1
        while node < self._top:
            tree[node] -= weight
            node += node & -node
        self.total -= weight
        return place
