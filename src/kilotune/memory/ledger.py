"""Both accountings of a plan, and the worst case over everything a policy can draw."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kilotune.graph.backward import StepGraph, check_plan
from kilotune.graph.keeping import modes_of, ways_of
from kilotune.graph.node import Graph
from kilotune.graph.way import Way
from kilotune.memory.accounting import Accounting
from kilotune.memory.arena import Arena
from kilotune.memory.cost import chosen_cost
from kilotune.memory.fixed import trained_kinds
from kilotune.memory.lifetime import Timeline
from kilotune.memory.stack import Stack
from kilotune.memory.timelines import Sheet, Timelines
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
    kept channels as a stack from the top, everything that stays all along beside them, layers among it that each draw trains
    whole."""

    graph: Graph
    accounting: Accounting
    sheet: Sheet
    pool: tuple[str, ...]
    ways: dict[str, Way]

    @classmethod
    def of(
        cls,
        graph: Graph,
        pool: tuple[str, ...],
        biases: tuple[str, ...],
        classifier: bool,
        accounting: Accounting,
        keeps: tuple[Keep, ...] = (),
        timelines: Timelines | None = None,
        whole: tuple[str, ...] = (),
    ) -> "Layout":
        """Lay out the step for every draw from the layers ``pool``, whose inputs are kept as ``keeps`` says.

        timelines: those of ``graph`` under ``accounting`` that other layouts have made; None: made here. whole: layers of
        which every draw trains all channels, as of the classifier; they stand beside the pool.
        """
        sheet = (timelines or Timelines(graph, accounting)).of(pool, biases, classifier, keeps, whole)
        return cls(graph, accounting, sheet, pool, ways_of(keeps))

    @classmethod
    def of_plan(cls, graph: Graph, plan: UpdatePlan, accounting: Accounting) -> "Layout":
        """Lay out the step for ``plan`` and all that its policy may draw later."""
        pool = plan.pool or tuple(chosen.layer for chosen in plan.channels)
        return cls.of(graph, pool, plan.biases, plan.classifier, accounting, plan.keeps)

    @property
    def timeline(self) -> Timeline:
        """When the fixed buffers live."""
        return self.sheet.timeline

    @property
    def fixed_resident(self) -> dict[str, int]:
        """Bytes that stay in every draw, by kind."""
        return self.sheet.fixed_resident

    @cached_property
    def arena(self) -> Arena:
        """Offsets of the fixed buffers, packed for the draws that are to be expected."""
        return self.sheet.arena(self._expected_stack())

    @property
    def resident_bytes(self) -> int:
        """What stays in every draw."""
        return sum(self.fixed_resident.values())

    @property
    def floor_bytes(self) -> int:
        """What no draw takes less than, however its buffers are packed; known without packing them."""
        return int(self.sheet.live.max(initial=0)) + self.resident_bytes

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
        return self._stack.of(plan)

    def scratch(self, plan: UpdatePlan) -> np.ndarray:
        """Bytes that ways of keeping need while they work on the channels of ``plan``, at each step (steps,)."""
        return self._stack.scratch(plan)

    @cached_property
    def _stack(self) -> Stack:
        return Stack(self.graph, self.accounting, self.timeline, self.pool, self.ways)

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

    def worst(self, caps: np.ndarray, elements: int, state_bytes: int, axis: Axis = "in") -> "Worst":
        """Most bytes that any draw takes: at most ``caps`` units of each layer along ``axis``, ``elements`` in all.

        elements: weights and inputs of the units, and what the layers drawn are charged once.
        """
        return Worst(self, self._stack.most(caps, elements, axis), state_bytes)


@dataclass(frozen=True)
class Worst:
    """What no draw exceeds: ``stack`` (steps,) above the fixed buffers of ``layout``, ``state_bytes`` beside them."""

    layout: Layout
    stack: np.ndarray
    state_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes with the buffers where they are."""
        return self._with(self.layout.arena.extent)

    @property
    def floor_bytes(self) -> int:
        """What ``nbytes`` is never below, however the buffers are packed; known without packing them."""
        return self._with(self.layout.sheet.live)

    def fits(self, nbytes: int) -> bool:
        """Whether no draw takes more than ``nbytes``; packed is only what may."""
        return self.floor_bytes <= nbytes and self.nbytes <= nbytes

    def _with(self, fixed: np.ndarray) -> int:
        return int((fixed + self.stack).max()) + self.layout.resident_bytes + self.state_bytes


def _by_layer(step_graph: StepGraph, batch: int) -> dict[str, int]:
    layers: dict[str, int] = {}
    for kept in step_graph.kept:
        if kept.counted:
            layers[kept.layer] = layers.get(kept.layer, 0) + kept.nbytes(batch)
    return {**layers, "loss": step_graph.loss_bytes(batch)}
