"""What a way of keeping a layer's input is: how many elements it stores, no tensors here.

An element is four bytes; what is smaller is padded to a multiple of four per channel. The input of a layer has one axis per
mode; ``channels`` of its channels are kept, ``batch`` samples at once. A mode of size 1 stores nothing.
"""

from dataclasses import dataclass, fields
from math import prod
from typing import Annotated, ClassVar, NamedTuple

from msgspec import Meta

Share = Annotated[float, Meta(gt=0, le=1)]


class Charge(NamedTuple):
    """Elements charged ``once`` per layer, whatever is chosen of it, and for each chosen ``unit`` besides."""

    once: int = 0
    unit: int = 0

    def of_all(self, units: int) -> "Charge":
        """All ``units`` charged at once."""
        return Charge(self.once + units * self.unit, 0)


@dataclass(frozen=True)
class Modes:
    """The axes of a layer's input: ``sizes`` at batch 1, which axis grows with the batch, which one holds the channels.

    output_hw: positions of the layer's output.
    """

    sizes: tuple[int, ...]
    batch_axis: int
    channel_axis: int
    output_hw: tuple[int, ...]

    def at(self, batch: int, channels: int | None = None) -> tuple[int, ...]:
        """Sizes with ``channels`` of the channels (None: all) at a batch size."""
        return tuple(
            (size * batch if axis == self.batch_axis else size)
            if axis != self.channel_axis or channels is None
            else channels
            for axis, size in enumerate(self.sizes)
        )

    def positions(self, batch: int) -> int:
        """Elements of one channel."""
        return prod(self.at(batch, 1))

    @property
    def channels(self) -> int:
        """All of them."""
        return self.sizes[self.channel_axis]


@dataclass(frozen=True)
class Way:
    """One way of keeping: what it stores. ``kept`` lives from forward to backward, ``state`` from step to step.

    Where ranks depend on the data, ``kept`` is the cap that no data exceeds. The bounds are affine in the channels:
    ``kept(modes, n, k) <= once + k unit``, so that a worst case over all draws is a sum.
    """

    name: ClassVar[str]

    def kept(self, modes: Modes, batch: int, channels: int) -> int:
        """Elements handed from forward to backward."""
        charge = self.bound(modes, batch)
        return charge.once + channels * charge.unit

    def bound(self, modes: Modes, batch: int) -> Charge:
        """What ``kept`` never exceeds."""
        raise NotImplementedError

    def state(self, modes: Modes, batch: int, channels: int) -> int:
        """Elements that stay from one step to the next."""
        return 0

    def state_bound(self, modes: Modes, batch: int) -> Charge:
        """What ``state`` never exceeds."""
        return Charge()

    def check(self, layer: str, kind: str, modes: Modes) -> None:
        """Raise PlanError if this way does not work on the layer."""

    def __str__(self) -> str:
        return ":".join([self.name, *(_text(getattr(self, field.name)) for field in fields(self))])


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
