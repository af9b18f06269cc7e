"""Ways of keeping an input as a core and factors, and how many elements they take."""

from dataclasses import dataclass
from math import ceil, floor, prod
from typing import Annotated, ClassVar

from msgspec import Meta

from kilotune.errors import PlanError
from kilotune.graph.way import Charge, Modes, Share, Way

Rank = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class Svd(Way):
    """The fewest singular components of the input, unfolded to samples x everything else, that hold ``energy`` of it;
    fewer where they would take more than ``cap`` of the exact bytes. A single sample is kept as it is."""

    name: ClassVar[str] = "svd"
    energy: Share
    cap: Share = 0.5

    def kept(self, modes: Modes, batch: int, channels: int) -> int:
        """As many components as the cap allows."""
        samples, rest = self._sides(modes, batch, channels)
        return rest if samples == 1 else self.most(modes, batch, channels) * (samples + rest)

    def most(self, modes: Modes, batch: int, channels: int) -> int:
        """Components that the cap allows, at least one."""
        samples, rest = self._sides(modes, batch, channels)
        return max(1, floor(self.cap * samples * rest / (samples + rest)))

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The cap, or one component."""
        samples, positions = self._sides(modes, batch, 1)
        if samples == 1:
            return Charge(0, positions)
        return Charge(samples, max(ceil(self.cap * samples * positions), positions))

    @staticmethod
    def _sides(modes: Modes, batch: int, channels: int) -> tuple[int, int]:
        sizes = modes.at(batch, channels)
        return sizes[modes.batch_axis], prod(sizes) // sizes[modes.batch_axis]


@dataclass(frozen=True)
class Hosvd(Way):
    """A core and a factor per mode, each mode with the fewest components that hold ``energy`` of the input (HOSVD);
    fewer where they would take more than ``cap`` of the exact bytes."""

    name: ClassVar[str] = "hosvd"
    energy: Share
    cap: Share = 0.5

    def kept(self, modes: Modes, batch: int, channels: int) -> int:
        """The cap, or one component of every mode."""
        sizes = modes.at(batch, channels)
        return max(floor(self.cap * prod(sizes)), stored(sizes, [1] * len(sizes)))

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The cap, or one component of every mode."""
        sizes = modes.at(batch, 1)
        return Charge(stored(sizes, [1] * len(sizes)), max(ceil(self.cap * prod(sizes)), 1))


@dataclass(frozen=True)
class Ranked(Way):
    """A way with fixed ``ranks``: one per mode in the order of the axes, or one for all."""

    ranks: tuple[Rank, ...]

    def of(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The rank of each mode; no more than its size, which is a mode without a factor."""
        ranks = self.ranks * len(sizes) if len(self.ranks) == 1 else self.ranks
        return tuple(min(rank, size) for rank, size in zip(ranks, sizes, strict=True))

    def check(self, layer: str, kind: str, modes: Modes) -> None:
        """One rank per mode."""
        if len(self.ranks) not in (1, len(modes.sizes)):
            raise PlanError(
                f"{layer}: {self} has {len(self.ranks)} ranks, its input has {len(modes.sizes)} modes "
                f"{modes.sizes}; give one rank per mode, or one for all"
            )


@dataclass(frozen=True)
class Asi(Ranked):
    """A core and a factor per mode at fixed ranks, one subspace step from the factors of the step before (ASI)."""

    name: ClassVar[str] = "asi"

    def kept(self, modes: Modes, batch: int, channels: int) -> int:
        """The core; factors are state, which lives longer."""
        return prod(self.of(modes.at(batch, channels)))

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The core; per channel, where channels are not compressed."""
        sizes = modes.at(batch)
        ranks, axis = self.of(sizes), modes.channel_axis
        if ranks[axis] == sizes[axis]:
            return Charge(0, prod(ranks) // ranks[axis])
        return Charge(prod(ranks), 0)

    def state(self, modes: Modes, batch: int, channels: int) -> int:
        """The factors."""
        sizes = modes.at(batch, channels)
        return stored(sizes, self.of(sizes)) - prod(self.of(sizes))

    def state_bound(self, modes: Modes, batch: int) -> Charge:
        """The channels' factor has a row per channel."""
        sizes = modes.at(batch)
        axis, rank = modes.channel_axis, self.of(sizes)[modes.channel_axis]
        others = self.state(modes, batch, modes.channels) - (0 if rank == sizes[axis] else sizes[axis] * rank)
        return Charge(others, 0 if rank == sizes[axis] else rank)


@dataclass(frozen=True)
class Lance(Ranked):
    """A core only; the factors of all modes but the batch were calibrated once and stay (LANCE)."""

    name: ClassVar[str] = "lance"

    def of(self, sizes: tuple[int, ...], batch_axis: int = 0) -> tuple[int, ...]:
        """The rank of each mode; samples are not compressed."""
        ranks = super().of(sizes)
        return tuple(sizes[axis] if axis == batch_axis else rank for axis, rank in enumerate(ranks))

    def kept(self, modes: Modes, batch: int, channels: int) -> int:
        """The core."""
        return prod(self.of(modes.at(batch, channels), modes.batch_axis))

    def bound(self, modes: Modes, batch: int) -> Charge:
        """The core; per channel, where channels are not compressed."""
        sizes = modes.at(batch)
        ranks, axis = self.of(sizes, modes.batch_axis), modes.channel_axis
        if ranks[axis] == sizes[axis]:
            return Charge(0, prod(ranks) // ranks[axis])
        return Charge(prod(ranks), 0)

    def state(self, modes: Modes, batch: int, channels: int) -> int:
        """The factors, of all channels: any of them may be drawn; and rows of the channels' one for those that are."""
        rank = self.of(modes.at(1, channels), modes.batch_axis)[modes.channel_axis]
        cut = channels * rank if rank < channels < modes.channels else 0
        return self.state_bound(modes, batch).once + cut

    def state_bound(self, modes: Modes, batch: int) -> Charge:
        """The factors, once per layer; the channels' one has a row more for each that is drawn."""
        sizes, axis = modes.at(1), modes.channel_axis
        ranks = self.of(sizes, modes.batch_axis)
        return Charge(stored(sizes, ranks) - prod(ranks), ranks[axis] if ranks[axis] < sizes[axis] else 0)


def stored(sizes: tuple[int, ...], ranks: tuple[int, ...] | list[int]) -> int:
    """Elements of a core and its factors; a mode at full rank, or of size 1, has none (HOSVD, section 3.3)."""
    return prod(ranks) + sum(size * rank for size, rank in zip(sizes, ranks, strict=True) if rank < size)
