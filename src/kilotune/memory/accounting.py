"""What the ``total`` ledger counts."""

from dataclasses import dataclass

from kilotune.errors import PlanError
from kilotune.graph.scratch import scratch
from kilotune.graph.tiles import Needs, scratch_in_tiles
from kilotune.units import DTYPE_BYTES

# Tensors of the parameter's size that each optimiser keeps.
OPTIMIZER_SLOTS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adagrad": 1, "adam": 2, "adamw": 2}

FIRMWARE_OPTIMIZERS = ("sgd", "momentum")


@dataclass(frozen=True)
class Accounting:
    """How the ``total`` ledger counts.

    batch: samples in flight at once; a device sees one and accumulates. accumulate: whether weight gradients are summed
    over a mini-batch, so that they need a buffer that stays. optimizer: a key of OPTIMIZER_SLOTS. updates: whether weights
    change; a pass that only looks at gradients has no overlay of changed weights and no optimiser state.
    streamed: whether the total is that of a firmware, which streams blocks (``memory.streaming``) and, where it does not
    accumulate, applies the gradient of one channel before it computes the next; PyTorch does neither.
    tiled: whether ways of keeping make inputs again a few channels at a time, as exported firmware does; PyTorch makes those of
    a layer again at once.
    program_bytes: RAM of the firmware that is no part of a step: stack, .data, .bss.
    """

    batch: int = 1
    accumulate: bool = True
    optimizer: str = "sgd"
    dtype: str = "float32"
    updates: bool = True
    streamed: bool = False
    tiled: bool = False
    program_bytes: int = 0

    def __post_init__(self):
        if self.streamed and self.batch != 1:
            raise PlanError(f"a firmware with streamed blocks has one sample in memory, not {self.batch}; use batch 1")
        if self.optimizer not in OPTIMIZER_SLOTS:
            raise PlanError(f"optimizer {self.optimizer!r} is unknown; choose one of {', '.join(OPTIMIZER_SLOTS)}")
        if self.streamed and self.optimizer not in FIRMWARE_OPTIMIZERS:
            raise PlanError(f"a firmware with streamed blocks has SGD, with momentum or without, not {self.optimizer}")

    @property
    def element_bytes(self) -> int:
        """Bytes of one number."""
        return DTYPE_BYTES[self.dtype]

    @property
    def needs(self) -> Needs:
        """What ways of keeping need while they work."""
        return scratch_in_tiles if self.tiled else scratch

    @property
    def resident_copies(self) -> int:
        """Numbers that stay in RAM per trained weight: its value, its summed gradient, the optimiser's state."""
        return self.updates + self.accumulate + self.optimizer_copies

    @property
    def layer_gradients(self) -> bool:
        """Whether the gradients of a whole layer are there for a moment, at its backward step, and then applied."""
        return not self.accumulate and not self.streamed

    @property
    def optimizer_copies(self) -> int:
        """Numbers that the optimiser keeps per trained weight."""
        return OPTIMIZER_SLOTS[self.optimizer] * self.updates
