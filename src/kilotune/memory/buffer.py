"""A piece of memory with a lifetime."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["input", "activation", "mask", "gradient", "scratch"]

_ALIGNMENT = 4


@dataclass(frozen=True)
class Buffer:
    """``nbytes`` alive from step ``first`` to step ``last``, both included."""

    name: str
    nbytes: int
    kind: Kind
    layer: str
    first: int
    last: int

    def until(self, step: int) -> "Buffer":
        """The same, alive until ``step`` at least."""
        return Buffer(self.name, self.nbytes, self.kind, self.layer, self.first, max(self.last, step))

    def overlaps(self, other: "Buffer") -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to a multiple of four, the alignment of every buffer on a device."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def live_bytes(buffers: Sequence[Buffer], n_steps: int) -> np.ndarray:
    """Bytes alive at each step (steps,), wherever they are."""
    change = np.zeros(n_steps + 1, dtype=np.int64)
    for buffer in buffers:
        change[buffer.first] += buffer.nbytes
        change[buffer.last + 1] -= buffer.nbytes
    return change.cumsum()[:-1]
