"""TraDy (arXiv 2510.19675): layers chosen offline by RGN, channels drawn uniformly inside them each epoch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kilotune.policies.base import Redraw, State, Task
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.pool import LayerSet, PooledPolicy
from kilotune.rng import Pcg32


@dataclass(frozen=True)
class Trady(PooledPolicy):
    """Channels of the top K layers by RGN, uniformly, anew each time (algorithm 1). Size: elements.

    boosted: draw channels in proportion to their layer's LaRa instead (MeDyate, appendix A.2; rejected there).
    """

    name: ClassVar[str] = "trady"
    redraw: ClassVar[Redraw] = "epoch"
    layer_set: LayerSet = "rgn"
    boosted: bool = False

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """Uniform, or by the layers' LaRa."""
        return weighted(ids, task.scores("lara")[task.table.layer_of[ids]], rng) if self.boosted else shuffled(ids, rng)


@dataclass(frozen=True)
class TopkRandomStatic(Trady):
    """TraDy's layers, their channels drawn once and kept ("S-TopK Random" of the paper). Size: elements."""

    name: ClassVar[str] = "topk_random_static"
    redraw: ClassVar[Redraw] = "never"
