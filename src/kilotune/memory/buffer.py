"""A piece of memory with a lifetime."""

from dataclasses import dataclass
from typing import Literal

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

    def overlaps(self, other: "Buffer") -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to a multiple of four, the alignment of every buffer on a device."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
