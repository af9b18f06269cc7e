"""A C project as plain records: constants, calls in order, what is where. Only ``render`` turns them into text."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Place(NamedTuple):
    """Bytes ``offset`` and on of the arena, read as numbers, or as bytes (masks)."""

    offset: int
    as_bytes: bool = False


class Name(NamedTuple):
    """Something that C knows by this name."""

    name: str


class Address(NamedTuple):
    """The address of something that C knows by this name."""

    name: str


class Below(NamedTuple):
    """``elements`` numbers right below what a field of a slice points to: gradients that do not stay."""

    slice: int
    field: str
    elements: int


Argument = Place | Name | Address | Below | int | float


@dataclass(frozen=True)
class Call:
    """One call of a kernel of the runtime."""

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Probe:
    """Where a build for comparison looks: ``what`` (value, gradient, slice, bias) of node or layer number ``index``."""

    what: str
    index: int
    at: Argument
    elements: int


@dataclass(frozen=True)
class Comment:
    """A line for the reader of the generated file."""

    text: str


Line = Call | Probe | Comment


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant array in flash; its number format is that of ``values`` (float16 is written as its bits)."""

    name: str
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes in flash."""
        return self.values.nbytes


class Struct(NamedTuple):
    """A constant of a struct of the runtime, its fields in order; ``rows`` of them make an array."""

    kind: str
    name: str
    rows: tuple[tuple[Argument | str, ...], ...]


class Trained(NamedTuple):
    """A bias or a classifier, which every draw trains: where values, summed gradients and velocities lie; None: nowhere."""

    layer: str
    elements: int
    value: Place
    gradient: Place | None
    velocity: Place | None


@dataclass(frozen=True, eq=False)
class Program:
    """Everything that is printed.

    image, logits: places. infer, train, apply: the lines of these functions. start: the lines that put initial values in place.
    layers, slices: tables of kt_types.h, one row per layer that draws may train, in forward order. max_channels: most input
    channels that one draw trains. resident_bytes: what stays from step to step, at the upper end of the arena.
    """

    arena_bytes: int
    image: Place
    image_elements: int
    logits: Place
    classes: int
    constants: tuple[Constant, ...]
    structs: tuple[Struct, ...]
    start: tuple[Line, ...]
    infer: tuple[Line, ...]
    forward: tuple[Line, ...]
    loss_gradient: Place
    backward: tuple[Line, ...]
    apply: tuple[Line, ...]
    accumulates: bool
    trained: tuple[Trained, ...]
    slices: tuple[str, ...]
    resident_bytes: int
    momentum: float

    @property
    def table_bytes(self) -> int:
        """What else lies in RAM: learning rule, counters, the pointer to the medium."""
        return 24

    @property
    def flash_bytes(self) -> int:
        """Bytes of the constant arrays."""
        return sum(constant.nbytes for constant in self.constants)
