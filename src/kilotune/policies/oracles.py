"""Oracles: channels by the full gradient, measured before a draw. Compared with in TraDy and MeDyate; no device can run one.

Each pass over the training data needs the gradient of every weight. It is outside the budget, and it is charged:
``memory.survey`` says what it costs, and every plan and record shows it.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from kilotune.policies.base import Observation, Redraw, State, Task, finite_norms
from kilotune.policies.order import descending, shuffled, weighted
from kilotune.policies.pool import LayerSet, PooledPolicy
from kilotune.rng import Pcg32
from kilotune.update_plan import ChannelSet


@dataclass(frozen=True)
class Oracle(PooledPolicy):
    """Channels in an order that the full gradient decides. Size: elements.

    Before there is a gradient, as in ``kilotune plan``, the order is uniform.

    survey_steps: optimiser steps' worth of batches in each pass; None: all of the epoch to come.
    """

    observes: ClassVar[Observation] = "survey"
    survey_steps: Annotated[int, Meta(ge=1)] | None = None

    @abstractmethod
    def by_norm(self, task: Task, ids: np.ndarray, norms: np.ndarray, rng: Pcg32) -> Iterable[int]:
        """The channels ``ids``, whose full gradients have the norms ``norms``, in the order in which they are bought."""

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """By the norms of the last pass."""
        if not state.norms:
            return shuffled(ids, rng)
        return self.by_norm(task, ids, np.array([state.norms.get(channel, 0.0) for channel in ids.tolist()]), rng)

    def observe(self, task: Task, state: State, ids: np.ndarray, values: np.ndarray) -> None:
        """Take in the gradient norms of all channels; what was chosen without them no longer counts."""
        state.norms = finite_norms(task, ids, values)
        state.chosen = []

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """Channels along ``order``; then the norms are forgotten."""
        sets = super().draw(task, size, state, rng)
        state.norms = {}
        return sets


@dataclass(frozen=True)
class DetRaw(Oracle):
    """By falling gradient norm ("Det Raw" of MeDyate's tables), measured before each epoch."""

    name: ClassVar[str] = "det_raw"
    redraw: ClassVar[Redraw] = "epoch"
    layer_set: LayerSet = "lara"

    def by_norm(self, task: Task, ids: np.ndarray, norms: np.ndarray, rng: Pcg32) -> Iterable[int]:
        """By falling ``n_c`` (TraDy, Eq. 6)."""
        return descending(ids, norms).tolist()


@dataclass(frozen=True)
class StaticDetRaw(DetRaw):
    """By falling gradient norm, measured once before the first epoch."""

    name: ClassVar[str] = "static_det_raw"
    redraw: ClassVar[Redraw] = "never"


@dataclass(frozen=True)
class DetRgn(Oracle):
    """By falling gradient norm per cost ("D-Det RGN" of TraDy's tables), measured before each epoch."""

    name: ClassVar[str] = "det_rgn"
    redraw: ClassVar[Redraw] = "epoch"

    def by_norm(self, task: Task, ids: np.ndarray, norms: np.ndarray, rng: Pcg32) -> Iterable[int]:
        """By falling ``n_c / (C_W + C_A)`` (TraDy, Eq. 7)."""
        return descending(ids, norms / task.table.channel_cost[ids]).tolist()


@dataclass(frozen=True)
class StaticDetRgn(DetRgn):
    """By falling gradient norm per cost, measured once before the first epoch ("S-Det RGN" of TraDy's tables)."""

    name: ClassVar[str] = "static_det_rgn"
    redraw: ClassVar[Redraw] = "never"


@dataclass(frozen=True)
class ProbRaw(Oracle):
    """In proportion to the gradient norm ("Prob Raw" of MeDyate's tables), measured before each epoch."""

    name: ClassVar[str] = "prob_raw"
    redraw: ClassVar[Redraw] = "epoch"
    layer_set: LayerSet = "lara"

    def by_norm(self, task: Task, ids: np.ndarray, norms: np.ndarray, rng: Pcg32) -> Iterable[int]:
        """Successive draws with ``P(c)`` proportional to ``n_c``: MeDyate's draw with norms that are known."""
        return weighted(ids, norms, rng)
