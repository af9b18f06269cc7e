"""MeDyate (arXiv 2510.20979): layers by LaRa for the budget, channels drawn in proportion to stored gradient norms."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from kilotune.errors import TrainingError
from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import Redraw, State, Task
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.spend import SpendingPolicy, affordable, cut
from kilotune.rng import Pcg32


@dataclass(frozen=True)
class Medyate(SpendingPolicy):
    """Channels of the top K layers by LaRa, the first time uniformly, then in proportion to their gradient norms
    (algorithm 1). Size: elements.

    Once the first norms are known, every channel not yet seen counts as the largest of them; later only the norms of
    the channels just trained are replaced. Without any observed norm the draw stays uniform.

    alpha_opt: K is the smallest one with budget / (cost of the top K layers) <= alpha_opt (Eq. 10). k: or this many.
    boosted: draw the first time in proportion to the layers' LaRa (appendix A.2; rejected there).
    """

    name: ClassVar[str] = "medyate"
    redraw: ClassVar[Redraw] = "epoch"
    observes_norms: ClassVar[bool] = True
    alpha_opt: Annotated[float, Meta(gt=0, le=1)] = 0.2
    k: Annotated[int, Meta(ge=1)] | None = None
    boosted: bool = False

    def layers(self, task: Task) -> np.ndarray:
        """All rows, by LaRa."""
        return task.ranked("lara")

    def pool(self, task: Task, size: int) -> np.ndarray:
        """The top K rows of those that ``size`` can buy from; all of them where none is large enough for alpha_opt."""
        ranked = affordable(task, self.layers(task), size)
        pool_cost = np.cumsum(task.table.cost[ranked] * task.table.channels[ranked])
        return ranked[: self.k or int(np.searchsorted(pool_cost, size / self.alpha_opt)) + 1]

    def runs(self, task: Task) -> list[range]:
        """Cut where a layer becomes affordable: it may take the place of another one among the top K."""
        return cut(self.sizes(task), task.table.cost.tolist())

    def state_elements(self, table: ChannelTable, rows: np.ndarray) -> int:
        """One stored norm per channel of the pool."""
        return int(table.channels[rows].sum())

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """By stored norm; before there is one uniformly, or by the layers' LaRa."""
        if state.norms:
            optimistic = max(state.norms.values())
            state.norms |= {channel: optimistic for channel in ids.tolist() if channel not in state.norms}
            return weighted(ids, np.array([state.norms[channel] for channel in ids.tolist()]), rng)
        return weighted(ids, task.scores("lara")[task.table.layer_of[ids]], rng) if self.boosted else shuffled(ids, rng)

    def observe(self, task: Task, state: State, ids: np.ndarray, norms: np.ndarray) -> None:
        """Overwrite the norms of the channels just trained, as float32. Raises TrainingError if one is not finite."""
        norms = np.asarray(norms, dtype=np.float32)
        if not np.isfinite(norms).all():
            bad = int(np.asarray(ids)[~np.isfinite(norms)][0])
            layer = task.table.names[task.table.layer_of[bad]]
            raise TrainingError(f"a gradient norm of {layer} is not finite; lower the learning rate")
        state.norms.update(zip(np.asarray(ids).tolist(), norms.tolist(), strict=True))
