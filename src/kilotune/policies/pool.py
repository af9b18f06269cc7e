"""Which layers a spending policy draws from: all of them, TraDy's fixed set, or MeDyate's set that follows the budget."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from kilotune.errors import PlanError
from kilotune.policies.base import Task
from kilotune.policies.published import find_network
from kilotune.policies.spend import SpendingPolicy, affordable, cut

LayerSet = Literal["all", "rgn", "lara"]

RGN_SHARE = 0.97
"""Share of the total RGN that the chosen layers hold (TraDy, section 4)."""


@dataclass(frozen=True)
class PooledPolicy(SpendingPolicy):
    """A spending policy with a choice of layers.

    layer_set: "all" layers; "rgn", the top K by RGN whatever the budget (TraDy; "Prev" in MeDyate's tables); "lara", the
    top K by LaRa for the budget (MeDyate; "LaRa" there).
    k: number of layers. share: with "rgn", the fewest layers that hold this share of the total RGN. Neither: the published
    K for the three networks of the paper, share 0.97 for all others.
    alpha_opt: with "lara", K is the smallest one with budget / (cost of the top K layers) <= alpha_opt (MeDyate, Eq. 10).
    """

    layer_set: LayerSet = "all"
    k: Annotated[int, Meta(ge=1)] | None = None
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    alpha_opt: Annotated[float, Meta(gt=0, le=1)] = 0.2

    def __post_init__(self):
        if self.layer_set == "all" and self.k is not None:
            raise PlanError(f"k={self.k} chooses the best layers, but layer_set is 'all'; say layer_set=rgn or lara")
        if self.layer_set != "rgn" and self.share is not None:
            raise PlanError(
                f"share={self.share} is a share of RGN, but layer_set is {self.layer_set!r}; say layer_set=rgn"
            )

    def layers(self, task: Task) -> np.ndarray:
        """All rows in forward order, the top K by RGN, or all rows by LaRa."""
        if self.layer_set == "all":
            return np.arange(len(task.graph.body))
        ranked = task.ranked(self.layer_set)
        return ranked if self.layer_set == "lara" else ranked[: self._rgn_k(task, ranked)]

    def pool(self, task: Task, size: int) -> np.ndarray:
        """The layers that ``size`` can buy from; by LaRa the top K of them, all where none is large enough for alpha_opt."""
        rows = affordable(task, self.behind(task), size, self.axis)
        if self.layer_set != "lara":
            return rows
        table = task.units(self.axis)
        pool_cost = np.cumsum(table.once[rows] + table.cost[rows] * table.channels[rows])
        return rows[: self.k or int(np.searchsorted(pool_cost, size / self.alpha_opt)) + 1]

    def runs(self, task: Task) -> list[range]:
        """By LaRa cut where a layer becomes affordable: it may take the place of another one among the top K."""
        if self.layer_set != "lara":
            return super().runs(task)
        table = task.units(self.axis)
        return cut(self.sizes(task), (table.once + table.cost).tolist())

    def _rgn_k(self, task: Task, ranked: np.ndarray) -> int:
        network = find_network(task.graph) if self.share is None else None
        return self.k or (network and network.trady_k) or self._fewest(task.scores("rgn")[ranked])

    def _fewest(self, scores: np.ndarray) -> int:
        total = np.cumsum(scores)
        return int(np.searchsorted(total, (self.share or RGN_SHARE) * total[-1:].sum())) + 1
