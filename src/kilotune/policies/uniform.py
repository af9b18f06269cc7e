"""Uniform random channels of all layers: the simplest draw under a budget, made once or again and again."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kilotune.policies.base import Redraw, State, Task
from kilotune.policies.order import shuffled
from kilotune.policies.spend import SpendingPolicy
from kilotune.rng import Pcg32


@dataclass(frozen=True)
class Random(SpendingPolicy):
    """Channels of all layers, uniformly, anew each time (TraDy's "D-Full Random"). Size: elements."""

    name: ClassVar[str] = "random"
    redraw: ClassVar[Redraw] = "epoch"

    def layers(self, task: Task) -> np.ndarray:
        """All of them."""
        return np.arange(len(task.table.names))

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """Uniform."""
        return shuffled(ids, rng)


@dataclass(frozen=True)
class StaticRandom(Random):
    """Channels of all layers, uniformly, drawn once and kept (TraDy's "S-Full Random"). Size: elements."""

    name: ClassVar[str] = "static_random"
    redraw: ClassVar[Redraw] = "never"
