"""Velocity: units are trained while what they compute still changes. NEq (arXiv 2207.09455), its version under a budget of
parameters (arXiv 2312.05282), and the same on input channels, which the budget of activations sees as well."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from kilotune.errors import TrainingError
from kilotune.policies.base import Bound, Observation, Policy, Redraw, State, Task
from kilotune.policies.neurons import NeuronPolicy
from kilotune.policies.order import descending, shuffled
from kilotune.policies.pool import PooledPolicy
from kilotune.rng import Pcg32
from kilotune.update_plan import Axis, ChannelSet

# Numbers per unit besides its values: their sum of squares then and now, the products of then and now, similarity, velocity.
_BESIDE_VALUES = 5
# Besides the sums of a sketch, then and now: the sum of squares, similarity, velocity.
_BESIDE_SKETCHES = 3


@dataclass(frozen=True)
class Watch(Policy):
    """What policies by velocity have in common: they look at the same images after each epoch.

    images: so many, of the training data, the same all along (the papers take 10). mu: share of the last velocity that is
    taken off the next. sketch: to save memory, keep so many random sums of each unit's values instead of the values.
    """

    images: Annotated[int, Meta(ge=1)] = 10
    mu: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    sketch: Annotated[int, Meta(ge=1)] | None = None

    def observe(self, task: Task, state: State, ids: np.ndarray, values: np.ndarray) -> None:
        """From similarities ``phi`` to velocities: ``v = phi - phi_before - mu v_before`` (NEq, section 3).

        Before the first look nothing moved: ``phi = 1``, ``v = 0``. Raises TrainingError if a similarity is not finite.
        """
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise TrainingError("the network's values are not finite any more; lower the learning rate")
        for unit, phi in zip(np.asarray(ids).tolist(), values.tolist(), strict=True):
            change = phi - state.similarity.get(unit, 1.0)
            state.velocity[unit] = change - self.mu * state.velocity.get(unit, 0.0)
            state.similarity[unit] = phi

    def remembered(self, task: Task, rows: np.ndarray) -> int:
        """Numbers kept from look to look for the layers ``rows``: images, values or sketches, and what belongs to a unit."""
        total = self.images * prod(task.graph.input.shape[1:])
        for layer in (task.graph.body[row] for row in rows):
            units, size = {
                "in": (layer.in_channels, layer.input_hw), "out": (layer.out_channels, layer.output_hw),
            }[self.axis]  # fmt: skip
            values = self.images * prod(size) + _BESIDE_VALUES
            total += units * (values if self.sketch is None else 2 * self.sketch + _BESIDE_SKETCHES)
        return total


def speeds(state: State, ids: np.ndarray) -> np.ndarray:
    """``|v|`` of units, 0 where none is known."""
    return np.abs([state.velocity.get(unit, 0.0) for unit in ids.tolist()])


@dataclass(frozen=True)
class Velocity(Watch, NeuronPolicy):
    """Output neurons by falling ``|v|`` per parameter, the first time uniformly (arXiv 2312.05282). Size: elements."""

    name: ClassVar[str] = "velocity"
    redraw: ClassVar[Redraw] = "epoch"
    observes: ClassVar[Observation] = "outputs"

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """By ``|v|`` over the neuron's weights."""
        table = task.units(self.axis)
        if not state.velocity:
            return shuffled(ids, rng)
        return descending(ids, speeds(state, ids) / table.weight[table.layer_of[ids]]).tolist()

    def state_elements(self, task: Task, rows: np.ndarray) -> int:
        """See ``remembered``."""
        return self.remembered(task, rows)


@dataclass(frozen=True)
class VelocityInput(Watch, PooledPolicy):
    """Input channels by falling ``|v|`` per cost, the first time uniformly. Size: elements.

    The velocity of an input channel is that of the values it brings to the layer: where they move, the weights that read
    them have to follow. Not in the papers.
    """

    name: ClassVar[str] = "velocity_input"
    redraw: ClassVar[Redraw] = "epoch"
    observes: ClassVar[Observation] = "inputs"

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """By ``|v| / (C_W + C_A)``."""
        if not state.velocity:
            return shuffled(ids, rng)
        return descending(ids, speeds(state, ids) / task.table.channel_cost[ids]).tolist()

    def state_elements(self, task: Task, rows: np.ndarray) -> int:
        """See ``remembered``."""
        return self.remembered(task, rows)


@dataclass(frozen=True)
class Neq(Watch):
    """Output neurons that are not at equilibrium: all in the first epoch, then those with ``|v| >= eps``. One size.

    It has no budget: the worst case is dense training.

    eps: velocity below which a neuron is frozen for an epoch; the paper takes 0.001 for classification.
    """

    name: ClassVar[str] = "neq"
    axis: ClassVar[Axis] = "out"
    redraw: ClassVar[Redraw] = "epoch"
    observes: ClassVar[Observation] = "outputs"
    eps: Annotated[float, Meta(gt=0)] = 1e-3

    def sizes(self, task: Task) -> range:
        """One size, the number of layers."""
        n_layers = len(task.units(self.axis).names)
        return range(n_layers, n_layers + 1)

    def bound(self, task: Task, size: int) -> Bound:
        """All neurons of all layers, and what is remembered of them."""
        table = task.units(self.axis)
        state_elements = self.remembered(task, np.arange(size))
        return Bound(tuple(table.channels.tolist()), table.total(table.channels), state_elements=state_elements)

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """Neurons that move."""
        table = task.units(self.axis)
        ids = np.arange(table.n_channels)
        state.draws += 1
        return table.to_sets(ids[speeds(state, ids) >= self.eps] if state.velocity else ids)
