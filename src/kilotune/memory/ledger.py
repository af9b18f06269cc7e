"""Both accountings of a plan, and the worst case over everything a policy can draw."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from kilotune.graph.backward import StepGraph, check_plan
from kilotune.graph.keeping import modes_of, ways_of
from kilotune.graph.node import Graph, Layer
from kilotune.graph.way import Charge, Way
from kilotune.memory.accounting import Accounting
from kilotune.memory.arena import Arena, pack
from kilotune.memory.buffer import live_bytes
from kilotune.memory.cost import chosen_cost, unit_cost
from kilotune.memory.fixed import resident_kinds, trained_kinds
from kilotune.memory.knapsack import knapsack_once
from kilotune.memory.lifetime import Timeline
from kilotune.memory.passing import gradient_is_whole, passing_bytes
from kilotune.memory.streaming import stream
from kilotune.update_plan import Axis, Keep, UpdatePlan

# Part of a policy's pool that is taken to be trained where it is not known yet; MeDyate trains up to 0.2 of it.
_EXPECTED_SHARE = 0.2


@dataclass(frozen=True)
class LedgerReport:
    """What a plan costs. Elements and bytes at batch ``accounting.batch``.

    selection_elements: weights + inputs of the chosen channels at batch 1, classifier and biases not counted (TraDy).
    saved_bytes: kept from forward to backward, as autograd's saved-tensor hooks count it; by_layer: the same by layer.
    total_bytes: RAM of the whole training step; by_kind: its composition at the fullest step, the sum being the total.
    lower_bound_bytes: no placement of the same buffers needs less.
    """

    weight_elements: int
    activation_elements: int
    saved_bytes: int
    by_layer: dict[str, int]
    total_bytes: int
    by_kind: dict[str, int]
    peak_step: str
    lower_bound_bytes: int
    accounting: Accounting

    @property
    def selection_elements(self) -> int:
        """C_W + C_A summed over the chosen channels."""
        return self.weight_elements + self.activation_elements

    @property
    def selection_bytes(self) -> int:
        """``selection_elements`` in the accounting's number format."""
        return self.selection_elements * self.accounting.element_bytes


def ledger(graph: Graph, plan: UpdatePlan, batch: int = 1, accounting: Accounting | None = None) -> LedgerReport:
    """What ``plan`` costs on ``graph`` at a batch size, or under an ``accounting`` that says more than that.

    Raises PlanError where the plan does not fit the network.
    """
    check_plan(graph, plan)
    return Layout.of_plan(graph, plan, accounting or Accounting(batch=batch)).report(plan)


@dataclass(frozen=True)
class Layout:
    """The step of a network in which any channels of ``pool`` may be trained: fixed buffers packed from the bottom,
    kept channels as a stack from the top, everything that stays all along beside them."""

    graph: Graph
    accounting: Accounting
    timeline: Timeline
    fixed_resident: dict[str, int]
    pool: tuple[str, ...]
    ways: dict[str, Way]
    _units: dict[Axis, tuple[np.ndarray, ...]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        graph: Graph,
        pool: tuple[str, ...],
        biases: tuple[str, ...],
        classifier: bool,
        accounting: Accounting,
        keeps: tuple[Keep, ...] = (),
    ) -> "Layout":
        """Lay out the step for every draw from the layers ``pool``, whose inputs are kept as ``keeps`` says."""
        always = tuple(keep for keep in keeps if keep.layer == graph.classifier)
        step_graph = StepGraph.of(graph, UpdatePlan((), biases, classifier, keeps=always), through=pool)
        if accounting.streamed:
            timeline = stream(step_graph, accounting.element_bytes, frozenset(ways_of(keeps)), accounting.needs)
        else:
            timeline = Timeline(step_graph, accounting.batch, accounting.element_bytes, needs=accounting.needs)
        return cls(
            graph,
            accounting,
            timeline,
            resident_kinds(graph, step_graph, accounting),
            pool,
            ways_of(keeps),
        )

    @classmethod
    def of_plan(cls, graph: Graph, plan: UpdatePlan, accounting: Accounting) -> "Layout":
        """Lay out the step for ``plan`` and all that its policy may draw later."""
        pool = plan.pool or tuple(chosen.layer for chosen in plan.channels)
        return cls.of(graph, pool, plan.biases, plan.classifier, accounting, plan.keeps)

    @cached_property
    def arena(self) -> Arena:
        """Offsets of the fixed buffers, packed for the draws that are to be expected."""
        return pack(self.timeline.buffers, len(self.timeline.names), self._expected_stack())

    @property
    def resident_bytes(self) -> int:
        """What stays in every draw."""
        return sum(self.fixed_resident.values())

    @property
    def floor_bytes(self) -> int:
        """What no draw takes less than, however its buffers are packed; known without packing them."""
        live = live_bytes(self.timeline.buffers, len(self.timeline.names))
        return int(live.max(initial=0)) + self.resident_bytes

    def _expected_stack(self) -> np.ndarray:
        """Bytes above the fixed buffers at each step (steps,) if ``_EXPECTED_SHARE`` of the pool were trained."""
        stack = np.zeros(len(self.timeline.names))
        for name in self.pool:
            layer = self.graph.find_layer(name)
            born, read = self.timeline.forward_at[layer.node], self.timeline.backward_at[layer.node]
            stack[born : read + 1] += layer.input_elements
        return (stack * _EXPECTED_SHARE).astype(np.int64) * self.accounting.batch * self.accounting.element_bytes

    def stack(self, plan: UpdatePlan) -> np.ndarray:
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

    def _state(self, plan: UpdatePlan) -> int:
        """Elements that ways of keeping hold from one step to the next for the pool, of layers not drawn too."""
        channels = dict.fromkeys(self.pool, 0)
        for chosen in plan.channels:
            layer = self.graph.layer[chosen.layer]
            channels[layer.name] = len(chosen.indices) if layer.keeps_channels(chosen.axis) else layer.in_channels
        layers = {name: self.graph.layer[name] for name in channels if name in self.ways}
        return sum(
            self.ways[name].state(modes_of(self.graph, layer), self.accounting.batch, channels[name])
            for name, layer in layers.items()
        )

    @cached_property
    def _passing(self) -> np.ndarray:
        return passing_bytes(self.accounting, self.timeline, self.pool)

    def report(self, plan: UpdatePlan) -> LedgerReport:
        """The ledger of one draw in this layout."""
        costs = [chosen_cost(self.graph, chosen, self.ways) for chosen in plan.channels]
        weights = sum(cost.weights for cost in costs)
        resident = dict(self.fixed_resident) | trained_kinds("overlay", weights, self.accounting)
        resident["policy"] = plan.state_bytes
        resident["keeping"] += self._state(plan) * self.accounting.element_bytes
        stack, working = self.stack(plan), self.scratch(plan)
        occupied = self.arena.extent + stack
        peak = int(np.lexsort((self.arena.live, occupied))[-1])
        step_graph = StepGraph.of(self.graph, plan)
        return LedgerReport(
            weights,
            sum(cost.kept + cost.state for cost in costs),
            step_graph.saved_bytes(self.accounting.batch),
            _by_layer(step_graph, self.accounting.batch),
            int(occupied[peak]) + sum(resident.values()),
            self._composition(peak, int(stack[peak] - working[peak]), int(working[peak]), resident),
            self.timeline.names[peak],
            int((self.arena.live + stack).max()) + sum(resident.values()),
            self.accounting,
        )

    def _composition(self, step: int, stack: int, working: int, resident: dict[str, int]) -> dict[str, int]:
        kinds = {"input": 0, "activation": 0, "mask": 0, "gradient": 0, "scratch": working, "kept": stack}
        for buffer in self.arena.buffers:
            if buffer.first <= step <= buffer.last:
                kinds[buffer.kind] += buffer.nbytes
        kinds["fragmentation"] = int(self.arena.extent[step] - self.arena.live[step])
        for kind, nbytes in resident.items():
            kinds[kind] = kinds.get(kind, 0) + nbytes
        return kinds

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

    def worst_bytes(self, caps: np.ndarray, elements: int, state_bytes: int, axis: Axis = "in") -> int:
        """Most bytes that any draw takes: at most ``caps`` units of each layer along ``axis``, ``elements`` in all.

        elements: weights and inputs of the units, and what the layers drawn are charged once.
        At each step the fullest draw is bounded by the fractional knapsack, so the result is never too small.
        """
        if axis not in self._units:
            self._units[axis] = self._unit_arrays(axis)
        cost, cost_once, numbers, numbers_once, state_once = self._units[axis]
        working, working_once = self._worst_scratch(caps, axis)
        numbers, numbers_once = numbers + working, numbers_once + working_once
        most = knapsack_once(numbers, cost, caps, elements, numbers_once, cost_once) + int(state_once @ (caps > 0))
        most *= self.accounting.element_bytes
        return int((self.arena.extent + self._passing + most).max()) + self.resident_bytes + state_bytes

    def _worst_scratch(self, caps: np.ndarray, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
        """Elements that ways of keeping need for each unit, and once, at each step (steps, layers), up to ``caps`` units."""
        unit, once = np.zeros((2, *self._spans.shape), dtype=np.int64)
        for column, layer in enumerate(self.graph.body):
            if layer.name in self.ways and caps[column]:
                for step, charge in self._scratch(layer, axis, int(caps[column])):
                    unit[step, column], once[step, column] = charge.unit, charge.once
        return unit, once

    def _unit_arrays(self, axis: Axis) -> tuple[np.ndarray, ...]:
        """Elements of a unit of each layer and those charged once: at batch 1 (layers,), and in memory (steps, layers);
        and those that a way of keeping holds for a layer of the pool, drawn or not (layers,)."""
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
        return (
            weight + np.array([cost.kept.unit + cost.state.unit for cost in one]),
            np.array([cost.kept.once + cost.state.once for cost in one]),
            numbers,
            once,
            np.array([cost.state.once for cost in many]),
        )


def _by_layer(step_graph: StepGraph, batch: int) -> dict[str, int]:
    layers: dict[str, int] = {}
    for kept in step_graph.kept:
        if kept.counted:
            layers[kept.layer] = layers.get(kept.layer, 0) + kept.nbytes(batch)
    return {**layers, "loss": step_graph.loss_bytes(batch)}
