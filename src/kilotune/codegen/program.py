"""A C project as plain records: constants, calls in order, what is where. Only ``render`` turns them into text."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kilotune.codegen.drawing import Drawing


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
class Checked:
    """A call whose result is remembered in ``failed``."""

    call: Call


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


@dataclass(frozen=True)
class Scope:
    """``lines`` that see ``structs``, which are made anew each time: they may hold what changes with a draw."""

    structs: tuple["Struct", ...]
    lines: tuple[Call, ...]


@dataclass(frozen=True)
class EachChannel:
    """``lines`` for one channel after another of a slice, which they know as ``one``; gradient: where that of a channel lies."""

    slice: int
    gradient: Argument
    lines: tuple["Line", ...]


@dataclass(frozen=True)
class Restored:
    """``lines`` for up to ``most`` channels after another of the slice ``of``, which they know as ``some``, from place ``j`` on.

    number: row of the slice. top: what the elements of these channels, ``n`` of each, lie right below.
    """

    of: Name
    number: int
    most: int
    top: Argument
    n: int
    lines: tuple[Call, ...]


@dataclass(frozen=True)
class IfDrawn:
    """``lines`` if channels of slice ``number`` are trained under the present draw, else ``otherwise``."""

    number: int
    lines: tuple["Line", ...]
    otherwise: tuple["Line", ...] = ()


Line = Call | Checked | Probe | Comment | Scope | EachChannel | Restored | IfDrawn


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
class Draws:
    """What a project has besides if its policy draws on the device.

    slices_top: first byte above the slices. memory: where the policy's is. copies: numbers that stay per trained weight.
    initial: the lines that append exported weights to the first commit, ``weight_bytes`` of them. passing: where the gradient of
    the classifier lies if it does not stay, None if it does, or if there is none.
    """

    drawing: Drawing
    slices_top: Place
    memory: Place
    copies: int
    initial: tuple[Line, ...]
    weight_bytes: int
    passing: Argument | None
    classifier: bool

    @property
    def present_bytes(self) -> int:
        """The present draw and its generator."""
        return self.drawing.present_bytes

    @property
    def nbytes(self) -> int:
        """RAM beside the arena: present draw, table of slices, open store; pointers have four bytes."""
        return self.present_bytes + 24 * (len(self.drawing.layers) + self.classifier) + 64


@dataclass(frozen=True, eq=False)
class Program:
    """Everything that is printed.

    image, logits: places. image_is_bytes: whether the image is read as bytes, not as numbers. infer, train, apply: the lines of
    these functions. start: the lines that put initial values in place.
    layers, slices: tables of kt_types.h, one row per layer that draws may train, in forward order. max_channels: most input
    channels that one draw trains. fixed_bytes: from the bottom of the arena, up to where buffers reach that do not depend on the
    draw. resident_bytes: what stays from step to step, at the upper end of the arena. rounds: whether rounding is at random.
    """

    arena_bytes: int
    fixed_bytes: int
    image: Place
    image_elements: int
    image_is_bytes: bool
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
    draws: Draws | None = None
    rounds: bool = False

    @property
    def image_bytes(self) -> int:
        """What a commit of a project that draws consists of: weights, what stays in the arena, the draw; 0 of others."""
        return self.draws.weight_bytes + self.resident_bytes + self.draws.present_bytes if self.draws else 0

    @property
    def table_bytes(self) -> int:
        """What else lies in RAM: learning rule, counters, the pointer to the medium."""
        return 20 + (self.draws.nbytes if self.draws else 4 * self.rounds)

    @property
    def flash_bytes(self) -> int:
        """Bytes of the constant arrays."""
        return sum(constant.nbytes for constant in self.constants)
