"""TinyTrain's choice (arXiv 2307.09988): layers and channels by the Fisher information of one pass over the task's data."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from kilotune.policies.base import Observation, Redraw, Task
from kilotune.policies.oracles import Oracle
from kilotune.policies.order import descending
from kilotune.rng import Pcg32


@dataclass(frozen=True)
class Fisher(Oracle):
    """Layers by potential, inside them channels by Fisher information, chosen once before training. Size: elements.

    The potential of a layer is the sum over its channels, divided by its weights and its MACs (Eq. 3). Channels are input
    channels, the unit that is kept here; the paper sums over outputs.

    survey_steps: steps' worth of images that are looked at, one at a time.
    """

    name: ClassVar[str] = "fisher"
    redraw: ClassVar[Redraw] = "never"
    observes: ClassVar[Observation] = "fisher"
    survey_steps: Annotated[int, Meta(ge=1)] | None = 4

    def by_norm(self, task: Task, ids: np.ndarray, norms: np.ndarray, rng: Pcg32) -> Iterable[int]:
        """By the potential of the layer, then by Fisher information ``norms``."""
        rows = task.table.layer_of[ids]
        potential = np.bincount(rows, norms, minlength=len(task.table.names))
        layers = descending(np.unique(rows), (potential / self._price(task))[np.unique(rows)])
        for row in layers.tolist():
            yield from descending(ids[rows == row], norms[rows == row]).tolist()

    @staticmethod
    def _price(task: Task) -> np.ndarray:
        """Weights times MACs of each row (layers,), each as a share of the largest."""
        weights = np.array([layer.weight_elements for layer in task.graph.body], dtype=float)
        macs = np.array([layer.macs for layer in task.graph.body], dtype=float)
        return weights / weights.max() * (macs / macs.max())
