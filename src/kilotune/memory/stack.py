"""What lies above the fixed buffers of a step: kept channels of the draw, what keeping them needs, gradients that pass."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kilotune.graph.keeping import modes_of
from kilotune.graph.node import Graph, Layer
from kilotune.graph.way import Charge, Way
from kilotune.memory.accounting import Accounting
from kilotune.memory.cost import chosen_cost, unit_cost
from kilotune.memory.knapsack import KnapsackOnce
from kilotune.memory.lifetime import Timeline
from kilotune.memory.passing import gradient_is_whole, passing_bytes
from kilotune.update_plan import Axis, UpdatePlan


class _Units(NamedTuple):
    """Elements of one unit of each layer and those charged once: at batch 1 (layers,), and in memory (steps, layers);
    and those that a way of keeping holds for a layer of the pool, drawn or not (layers,)."""

    cost: np.ndarray
    cost_once: np.ndarray
    numbers: np.ndarray
    numbers_once: np.ndarray
    state_once: np.ndarray


@dataclass(frozen=True)
class Stack:
    """The part of memory that depends on the draw, in a step in which any channels of ``pool`` may be trained."""

    graph: Graph
    accounting: Accounting
    timeline: Timeline
    pool: tuple[str, ...]
    ways: dict[str, Way]
    _units_by_axis: dict[Axis, _Units] = field(default_factory=dict, repr=False, compare=False)
    _exact: dict[Axis, KnapsackOnce] = field(default_factory=dict, repr=False, compare=False)

    def of(self, plan: UpdatePlan) -> np.ndarray:
        """Bytes of kept channels, of what keeping them needs, and of weight gradients that do not stay, at each step (steps,)."""
        stack = self._passing + self.scratch(plan)
        for chosen in plan.channels:
            node = self.graph.find_layer(chosen.layer).node
            cost = chosen_cost(self.graph, chosen, self.ways, self.accounting.batch)
            born, read = self._span(node)
            stack[born : read + 1] += cost.kept * self.accounting.element_bytes
            if gradient_is_whole(self.accounting, self.timeline, node):
                stack[read] += cost.weights * self.accounting.element_bytes
        return stack

    def scratch(self, plan: UpdatePlan) -> np.ndarray:
        """Bytes that ways of keeping need while they work on the channels of ``plan``, at each step (steps,)."""
        elements = np.zeros(len(self.timeline.names), dtype=np.int64)
        for chosen in plan.channels:
            if chosen.layer in self.ways:
                layer, n_units = self.graph.layer[chosen.layer], len(chosen.indices)
                for step, charge in self._scratch(layer, chosen.axis, n_units):
                    elements[step] += charge.once + n_units * charge.unit
        return elements * self.accounting.element_bytes

    def _scratch(self, layer: Layer, axis: Axis, most: int) -> list[tuple[int, Charge]]:
        """Elements for up to ``most`` units of a layer along ``axis`` at the steps at which its way of keeping works."""
        modes, every = modes_of(self.graph, layer), not layer.keeps_channels(axis)
        channels = layer.in_channels if every else most
        needs = self.accounting.needs(self.ways.get(layer.name), layer, modes, self.accounting.batch, channels)
        needs = needs.of_all(channels) if every else needs
        steps = self.timeline.forward_at[layer.node], self.timeline.backward_at[layer.node]
        return list(zip(steps, needs, strict=True))

    def most(self, caps: np.ndarray, elements: int, axis: Axis) -> np.ndarray:
        """Most bytes of any draw at each step (steps,), those that stay for its units beside the step included.

        At most ``caps`` units of each layer along ``axis``, ``elements`` in all: weights and inputs of the units, and what
        the layers drawn are charged once. The fullest draw is bounded by the fractional knapsack, so it is never too small.
        """
        units = self._units(axis)
        most = self._knapsack(units, caps, axis).most(caps, elements) + int(units.state_once @ (caps > 0))
        return self._passing + most * self.accounting.element_bytes

    def _knapsack(self, units: _Units, caps: np.ndarray, axis: Axis) -> KnapsackOnce:
        """Kept exactly, it is the same for all caps; the scratch of a way depends on them."""
        if not self.ways and axis in self._exact:
            return self._exact[axis]
        working, working_once = self._worst_scratch(caps, axis)
        values = units.numbers + working, units.numbers_once + working_once
        knapsack = KnapsackOnce(values[0], units.cost, values[1], units.cost_once)
        if not self.ways:
            self._exact[axis] = knapsack
        return knapsack

    def _worst_scratch(self, caps: np.ndarray, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
        """Elements that ways of keeping need for each unit, and once, at each step (steps, layers), up to ``caps`` units."""
        unit, once = np.zeros((2, *self._spans.shape), dtype=np.int64)
        for column, layer in enumerate(self.graph.body):
            if layer.name in self.ways and caps[column]:
                for step, charge in self._scratch(layer, axis, int(caps[column])):
                    unit[step, column], once[step, column] = charge.unit, charge.once
        return unit, once

    @cached_property
    def _passing(self) -> np.ndarray:
        return passing_bytes(self.accounting, self.timeline, self.pool)

    def _span(self, node: str) -> tuple[int, int]:
        """First and last step at which the kept input of a layer's node is there; one that is made again is there once."""
        read = self.timeline.backward_at[node]
        return (read if node in self._made_again else self.timeline.forward_at[node]), read

    @cached_property
    def _made_again(self) -> set[str]:
        return {
            step.node.name for step in self.timeline.step_graph.steps if step.again and step.node.layer not in self.ways
        }

    @cached_property
    def _spans(self) -> np.ndarray:
        """Whether each layer's kept channels are alive at each step (steps, layers of the body)."""
        alive = np.zeros((len(self.timeline.names), len(self.graph.body)), dtype=bool)
        for column, layer in enumerate(self.graph.body):
            if layer.node in self.timeline.backward_at:
                born, read = self._span(layer.node)
                alive[born : read + 1, column] = True
        return alive

    def _units(self, axis: Axis) -> _Units:
        if axis not in self._units_by_axis:
            self._units_by_axis[axis] = self._make_units(axis)
        return self._units_by_axis[axis]

    def _make_units(self, axis: Axis) -> _Units:
        body, batch = self.graph.body, self.accounting.batch
        one, many = (
            [unit_cost(self.graph, layer, axis, self.ways.get(layer.name), n) for layer in body] for n in (1, batch)
        )
        weight = np.array([cost.weight for cost in one])
        resident = weight * self.accounting.resident_copies + np.array([cost.state.unit for cost in many])
        numbers = resident + self._spans * np.array([cost.kept.unit for cost in many])
        for column, layer in enumerate(body):
            if layer.node in self.timeline.backward_at and gradient_is_whole(
                self.accounting, self.timeline, layer.node
            ):
                numbers[self.timeline.backward_at[layer.node], column] += weight[column]
        once = self._spans * np.array([cost.kept.once for cost in many])
        return _Units(
            weight + np.array([cost.kept.unit + cost.state.unit for cost in one]),
            np.array([cost.kept.once + cost.state.once for cost in one]),
            numbers,
            once,
            np.array([cost.state.once for cost in many]),
        )
