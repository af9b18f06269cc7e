"""What every method is compared with: everything, the classifier, and the last layers. None of them draws anything."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from kilotune.policies.base import Bound, Policy, State, Task
from kilotune.rng import Pcg32
from kilotune.update_plan import ChannelSet

Count = Annotated[int, Meta(ge=1)]


class _LastLayers(Policy):
    """All channels of the last layers."""

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """All the channels that the bound allows, always the same."""
        state.draws += 1
        chosen = [task.table.ids(row) for row, cap in enumerate(self.bound(task, size).caps) if cap]
        return task.table.to_sets(np.concatenate(chosen)) if chosen else ()


@dataclass(frozen=True)
class Full(_LastLayers):
    """Every weight and every bias: dense fine-tuning. One size."""

    name: ClassVar[str] = "full"

    def sizes(self, task: Task) -> range:
        """One size, the number of layers."""
        n_layers = len(task.table.names)
        return range(n_layers, n_layers + 1)

    def bound(self, task: Task, size: int) -> Bound:
        """Everything there is."""
        return _last(task, size, with_weights=size)


@dataclass(frozen=True)
class Classifier(_LastLayers):
    """The classifier alone. One size."""

    name: ClassVar[str] = "classifier"

    def sizes(self, task: Task) -> range:
        """One size, no layers."""
        return range(1)

    def bound(self, task: Task, size: int) -> Bound:
        """The classifier."""
        return _last(task, size, with_weights=0)


@dataclass(frozen=True)
class Bias(_LastLayers):
    """The biases of the last ``k`` layers before the classifier, and the classifier. Size: layers.

    k: how many layers; None: as many as the budget allows.
    """

    name: ClassVar[str] = "bias"
    k: Count | None = None

    def sizes(self, task: Task) -> range:
        """``k``, or every number of layers from 1."""
        return _counts(task, self.k)

    def bound(self, task: Task, size: int) -> Bound:
        """The biases of the last ``size`` layers."""
        return _last(task, size, with_weights=0)


@dataclass(frozen=True)
class Last(_LastLayers):
    """All weights and biases of the last ``k`` layers before the classifier, and the classifier. Size: layers.

    k: how many layers; None: as many as the budget allows.
    """

    name: ClassVar[str] = "last"
    k: Count | None = None

    def sizes(self, task: Task) -> range:
        """``k``, or every number of layers from 1."""
        return _counts(task, self.k)

    def bound(self, task: Task, size: int) -> Bound:
        """All of the last ``size`` layers."""
        return _last(task, size, with_weights=size)


def _counts(task: Task, k: int | None) -> range:
    n_layers = len(task.table.names)
    return range(1, n_layers + 1) if k is None else range(min(k, n_layers), min(k, n_layers) + 1)


def _last(task: Task, n_biases: int, with_weights: int) -> Bound:
    """The biases of the last ``n_biases`` layers and all channels of the last ``with_weights`` layers."""
    n_layers = len(task.table.names)
    caps = np.where(np.arange(n_layers) >= n_layers - with_weights, task.table.channels, 0)
    return Bound(tuple(caps.tolist()), task.table.total(caps), task.last_biases(n_biases))
