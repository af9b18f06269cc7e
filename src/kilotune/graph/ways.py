"""The ways of keeping a layer's input for backward: a table, and how a way is written."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from kilotune.errors import PlanError
from kilotune.graph.low_rank import Asi, Hosvd, Lance, Svd
from kilotune.graph.way import Charge, Modes, Share, Way


@dataclass(frozen=True)
class Quantised(Way):
    """A whole number of some bits per element, and a float32 scale per channel."""

    bits: ClassVar[int]

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The numbers, packed, and the scale."""
        return Charge(0, ceil(modes.positions(batch) * self.bits / 32) + 1)


@dataclass(frozen=True)
class Int8(Quantised):
    """Eight bits per element, rounded stochastically."""

    name: ClassVar[str] = "int8"
    bits: ClassVar[int] = 8


@dataclass(frozen=True)
class Int4(Quantised):
    """Four bits per element, rounded stochastically."""

    name: ClassVar[str] = "int4"
    bits: ClassVar[int] = 4


@dataclass(frozen=True)
class Pruned(Way):
    """The ``share`` of the elements that is largest in magnitude, and a bit per element that says which (Back Razor)."""

    name: ClassVar[str] = "prune"
    share: Share

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The values, and the bits."""
        positions = modes.positions(batch)
        return Charge(0, self.values(positions) + ceil(positions / 32))

    def values(self, positions: int) -> int:
        """Values kept per channel on average; together they are the largest of all channels."""
        return ceil(self.share * positions)


@dataclass(frozen=True)
class Patterned(Way):
    """``taps`` of the four positions of every cell of 2 x 2, the same ones all over a channel, and which they are."""

    name: ClassVar[str] = "pattern"
    taps: Annotated[int, Meta(ge=1, le=3)]

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The values, and the number of the pattern."""
        cells = prod(ceil(size / 2) for size in modes.sizes[2:])
        return Charge(0, modes.at(batch)[modes.batch_axis] * cells * self.taps + 1)

    def check(self, layer: str, kind: str, modes: Modes) -> None:
        """Cells need rows and columns."""
        if kind == "linear":
            raise PlanError(
                f"{layer} is a linear layer, whose input has no cells of positions; keep it another way than {self}"
            )


@dataclass(frozen=True)
class Filtered(Way):
    """Sums over the patches of the input that belong to ``patch`` x ``patch`` outputs (gradient filtering)."""

    name: ClassVar[str] = "filter"
    patch: Annotated[int, Meta(ge=2)]

    def bound(self, modes: Modes, batch: int) -> Charge:
        """One element per patch."""
        return Charge(0, modes.at(batch)[modes.batch_axis] * self.patches(modes.output_hw))

    def patches(self, output_hw: tuple[int, ...]) -> int:
        """Patches of the map of one channel."""
        return prod(ceil(size / self.patch) for size in output_hw)

    def check(self, layer: str, kind: str, modes: Modes) -> None:
        """Patches need positions."""
        if kind == "linear":
            raise PlanError(
                f"{layer} is a linear layer; gradient filtering ({self}) is defined on convolutions, keep it another way"
            )


WAYS: dict[str, type[Way]] = {
    way.name: way for way in (Int8, Int4, Pruned, Patterned, Filtered, Svd, Hosvd, Asi, Lance)
}


@lru_cache
def parse_way(text: str) -> Way:
    """``hosvd:0.8``, ``svd:0.9:0.5``, ``asi:8``, ``asi:1x8x4x4``, ``lance:8``, ``filter:2``, ``prune:0.1``,
    ``pattern:1``, ``int8`` as a way.

    Raises PlanError for an unknown way, and for values that it does not take.
    """
    name, *values = text.split(":")
    if name not in WAYS:
        raise PlanError(f"there is no way of keeping {name!r} (in {text!r}); choose from {', '.join(WAYS)}")
    names = [field.name for field in fields(WAYS[name])]
    shape = ":".join([name, *(field.upper() for field in names)])
    if len(values) > len(names):
        raise PlanError(f"{text!r} has too many values; write {shape}")
    given = {key: value.split("x") if key == "ranks" else value for key, value in zip(names, values, strict=False)}
    try:
        return msgspec.convert(given, type=WAYS[name], strict=False)
    except msgspec.ValidationError as error:
        raise PlanError(f"{text!r} is no way of keeping: {error}; write {shape}") from error


def round_at_random(ways: Iterable[Way]) -> bool:
    """Whether any of these ways needs random numbers in every step."""
    return any(isinstance(way, Quantised) for way in ways)


def read_ways(path: Path) -> dict[str, str]:
    """Ways by layer from a JSON file. Raises PlanError if there is none, or it is something else."""
    try:
        ways = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except OSError as error:
        raise PlanError(f"cannot read ways of keeping from {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise PlanError(f'{path} does not hold ways of keeping by layer, {{"layer": "hosvd:0.8"}}: {error}') from error
    return {layer: str(parse_way(way)) for layer, way in ways.items()}
