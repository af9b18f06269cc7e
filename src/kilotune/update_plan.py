"""What is trained, as plain data: a policy returns it, training obeys it, firmware executes it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import msgspec

from kilotune.errors import PlanError
from kilotune.units import format_bytes, parse_bytes

Axis = Literal["in", "out"]
Ledger = Literal["total", "selection", "parameters"]
PLAN_VERSION = 1


class ChannelSet(NamedTuple):
    """The trained slice of one layer's weight ``(o, c, kh, kw)``.

    axis "in": the weights that read the input channels ``indices``; only these channels are kept for backward.
    axis "out": the output neurons ``indices``; the whole input is kept.
    """

    layer: str
    axis: Axis
    indices: tuple[int, ...]


class Keep(NamedTuple):
    """How a trained layer keeps its input for backward: ``way`` as ``graph.ways.parse_way`` reads it, ``"hosvd:0.8"``."""

    layer: str
    way: str


@dataclass(frozen=True)
class Budget:
    """A number of bytes and what it counts: ``total`` RAM of a step, the ``selection`` accounting of TraDy (weights and inputs
    of what is chosen), or its ``parameters`` only (arXiv 2312.05282)."""

    nbytes: int
    ledger: Ledger = "total"

    def __post_init__(self):
        if self.ledger not in get_args(Ledger):
            raise PlanError(f"ledger {self.ledger!r} is unknown; choose {', '.join(get_args(Ledger))}")

    @classmethod
    def parse(cls, amount: str | int, ledger: Ledger = "total") -> "Budget":
        """``"256KiB"`` or a number of bytes."""
        return cls(parse_bytes(amount), ledger)

    def __str__(self) -> str:
        return f"{format_bytes(self.nbytes)} {self.ledger}"


@dataclass(frozen=True)
class UpdatePlan:
    """Which channels and biases of which layers are trained.

    channels: in forward order, at most one set per layer, the classifier not among them.
    biases: names of the layers whose bias vector (or folded batch-norm shift) is trained, the classifier not among them.
    classifier: whether weight and bias of the classifier are trained.
    pool: layers that later draws of the policy behind this plan may train; memory is laid out for all of them.
    state_bytes: RAM that the policy keeps between draws (stored norms).
    keeps: layers that keep their input compressed, and how; all others keep it exactly.
    network: fingerprint of the network that it was drawn for, "" where nobody said.
    """

    channels: tuple[ChannelSet, ...] = ()
    biases: tuple[str, ...] = ()
    classifier: bool = True
    pool: tuple[str, ...] = ()
    state_bytes: int = 0
    keeps: tuple[Keep, ...] = ()
    version: int = PLAN_VERSION
    network: str = field(default="", compare=False)

    def __post_init__(self):
        if self.version != PLAN_VERSION:
            raise PlanError(f"plan has version {self.version}, this kilotune reads version {PLAN_VERSION}")
        object.__setattr__(self, "channels", tuple(ChannelSet(*chosen) for chosen in self.channels))
        object.__setattr__(self, "keeps", tuple(Keep(*keep) for keep in self.keeps))
        _check_once([chosen.layer for chosen in self.channels], "in the plan; merge their channels")
        _check_once([keep.layer for keep in self.keeps], "among the plan's keeps; a layer keeps its input in one way")
        for layer, axis, indices in self.channels:
            _check_indices(layer, axis, indices)
        if len(set(self.biases)) != len(self.biases):
            raise PlanError("a layer's bias appears more than once in the plan")

    def to_json(self) -> str:
        """The plan as JSON text, versioned."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "UpdatePlan":
        """The plan that ``to_json`` wrote. Raises PlanError for anything else."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise PlanError(f"this is not an update plan: {error}") from error


def _check_once(names: list[str], where: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise PlanError(f"layers {', '.join(repeated)} appear more than once {where}")


def _check_indices(layer: str, axis: str, indices: tuple[int, ...]) -> None:
    if axis not in ("in", "out"):
        raise PlanError(f"{layer}: axis {axis!r} is unknown; choose 'in' or 'out'")
    if not indices or indices[0] < 0 or any(a >= b for a, b in pairwise(indices)):
        raise PlanError(
            f"{layer}: channel indices must be strictly increasing, from 0, and at least one; got {indices}"
        )
