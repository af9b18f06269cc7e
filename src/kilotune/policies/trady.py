"""TraDy (arXiv 2510.19675): layers chosen offline by RGN, channels drawn uniformly inside them each epoch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from kilotune.policies.base import Redraw, State, Task
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.published import find_network
from kilotune.policies.spend import SpendingPolicy
from kilotune.rng import Pcg32

RGN_SHARE = 0.97
"""Share of the total RGN that the chosen layers hold (TraDy, section 4)."""


@dataclass(frozen=True)
class Trady(SpendingPolicy):
    """Channels of the top K layers by RGN, uniformly, anew each time (algorithm 1). Size: elements.

    k: number of layers. share: or the fewest layers that hold this share of the total RGN. Neither: the published K for
    the three networks of the paper, share 0.97 for all others.
    boosted: draw channels in proportion to their layer's LaRa instead (MeDyate, appendix A.2; rejected there).
    """

    name: ClassVar[str] = "trady"
    redraw: ClassVar[Redraw] = "epoch"
    k: Annotated[int, Meta(ge=1)] | None = None
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    boosted: bool = False

    def layers(self, task: Task) -> np.ndarray:
        """The top K rows by RGN."""
        ranked = task.ranked("rgn")
        return ranked[: self.k or self._published_k(task) or self._fewest(task.scores("rgn")[ranked])]

    def _published_k(self, task: Task) -> int | None:
        network = find_network(task.graph) if self.share is None else None
        return network and network.trady_k

    def _fewest(self, scores: np.ndarray) -> int:
        total = np.cumsum(scores)
        return int(np.searchsorted(total, (self.share or RGN_SHARE) * total[-1:].sum())) + 1

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """Uniform, or by the layers' LaRa."""
        return weighted(ids, task.scores("lara")[task.table.layer_of[ids]], rng) if self.boosted else shuffled(ids, rng)


@dataclass(frozen=True)
class TopkRandomStatic(Trady):
    """TraDy's layers, their channels drawn once and kept ("S-TopK Random" of the paper). Size: elements."""

    name: ClassVar[str] = "topk_random_static"
    redraw: ClassVar[Redraw] = "never"
