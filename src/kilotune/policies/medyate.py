"""MeDyate (arXiv 2510.20979): layers by LaRa for the budget, channels drawn in proportion to stored gradient norms."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kilotune.policies.base import Observation, Redraw, State, Task, finite_norms
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.pool import LayerSet, PooledPolicy
from kilotune.rng import Pcg32


@dataclass(frozen=True)
class Medyate(PooledPolicy):
    """Channels of the top K layers by LaRa, the first time uniformly, then in proportion to their gradient norms
    (algorithm 1). Size: elements.

    Once the first norms are known, every channel not yet seen counts as the largest of them; later only the norms of
    the channels just trained are replaced. Without any observed norm the draw stays uniform.

    boosted: draw the first time in proportion to the layers' LaRa (appendix A.2; rejected there).
    """

    name: ClassVar[str] = "medyate"
    redraw: ClassVar[Redraw] = "epoch"
    observes: ClassVar[Observation] = "norms"
    layer_set: LayerSet = "lara"
    boosted: bool = False

    def state_elements(self, task: Task, rows: np.ndarray) -> int:
        """One stored norm per channel of the pool."""
        return int(task.table.channels[rows].sum())

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """By stored norm; before there is one uniformly, or by the layers' LaRa."""
        if state.norms:
            optimistic = max(state.norms.values())
            state.norms |= {channel: optimistic for channel in ids.tolist() if channel not in state.norms}
            return weighted(ids, np.array([state.norms[channel] for channel in ids.tolist()]), rng)
        return weighted(ids, task.scores("lara")[task.table.layer_of[ids]], rng) if self.boosted else shuffled(ids, rng)

    def observe(self, task: Task, state: State, ids: np.ndarray, values: np.ndarray) -> None:
        """Overwrite the norms of the channels just trained."""
        state.norms.update(finite_norms(task, ids, values))
