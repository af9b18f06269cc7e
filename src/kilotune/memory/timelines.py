"""The timelines of one network, each made once: draws from other layers often need the very same buffers."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kilotune.graph.backward import StepGraph
from kilotune.graph.keeping import ways_of
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.arena import Arena, pack
from kilotune.memory.buffer import live_bytes
from kilotune.memory.fixed import resident_kinds
from kilotune.memory.lifetime import Timeline
from kilotune.memory.segments import Block, find_blocks
from kilotune.memory.streaming import stream
from kilotune.update_plan import Keep, UpdatePlan


@dataclass
class Sheet:
    """A timeline, what stays in RAM beside it in every draw, and the placements of its buffers made so far."""

    timeline: Timeline
    fixed_resident: dict[str, int]
    _arenas: dict[bytes, Arena] = field(default_factory=dict)

    @cached_property
    def live(self) -> np.ndarray:
        """Bytes alive at each step (steps,)."""
        return live_bytes(self.timeline.buffers, len(self.timeline.names))

    def arena(self, above: np.ndarray) -> Arena:
        """The buffers packed with ``above`` bytes above them at each step (steps,)."""
        key = above.tobytes()
        if key not in self._arenas:
            self._arenas[key] = pack(self.timeline.buffers, len(self.timeline.names), above)
        return self._arenas[key]


class _Key(NamedTuple):
    """What a timeline depends on. starts: layers that gradients reach first. plain: blocks that cannot be streamed."""

    starts: tuple[str, ...]
    biases: tuple[str, ...]
    classifier: bool
    whole: tuple[str, ...]
    always: tuple[Keep, ...]
    plain: tuple[int, ...]


@dataclass
class Timelines:
    """Timelines of ``graph`` under ``accounting``: one for all pools of which gradients reach the same nodes."""

    graph: Graph
    accounting: Accounting
    _sheets: dict[_Key, Sheet] = field(default_factory=dict)

    def of(
        self,
        pool: tuple[str, ...],
        biases: tuple[str, ...],
        classifier: bool,
        keeps: tuple[Keep, ...] = (),
        whole: tuple[str, ...] = (),
    ) -> Sheet:
        """The step in which any channels of ``pool`` may be trained, and all of ``whole`` are.

        Raises PlanError as ``StepGraph.of`` does.
        """
        always = tuple(keep for keep in keeps if keep.layer == self.graph.classifier)
        starts = self._starts(set(pool), {*biases, *whole, *([self.graph.classifier] if classifier else [])})
        key = _Key(starts, biases, classifier, whole, always, self._plain({keep.layer for keep in keeps}))
        if key not in self._sheets:
            channels = tuple(self.graph.layer[name].whole() for name in whole)
            step_graph = StepGraph.of(
                self.graph, UpdatePlan(channels, biases, classifier, keeps=always), through=starts
            )
            timeline = self._timeline(step_graph, keeps)
            self._sheets[key] = Sheet(timeline, resident_kinds(self.graph, step_graph, self.accounting))
        return self._sheets[key]

    def _timeline(self, step_graph: StepGraph, keeps: tuple[Keep, ...]) -> Timeline:
        if self.accounting.streamed:
            return stream(step_graph, self.accounting.element_bytes, frozenset(ways_of(keeps)), self.accounting.needs)
        return Timeline(step_graph, self.accounting.batch, self.accounting.element_bytes, needs=self.accounting.needs)

    def _starts(self, pool: set[str], trained: set[str | None]) -> tuple[str, ...]:
        """Layers of ``pool`` that no gradient would reach if nothing were drawn from them: the others change no buffer."""
        active, starts = set[str](), []
        for node in self.graph.nodes:
            layer = self._layer_of.get(node.name)
            if layer and layer in pool and layer not in trained and active.isdisjoint(node.inputs):
                starts.append(layer)
            if (layer and layer in pool | trained) or not active.isdisjoint(node.inputs):
                active.add(node.name)
        return tuple(starts)

    @cached_property
    def _layer_of(self) -> dict[str, str]:
        return {layer.node: layer.name for layer in self.graph.layers}

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return find_blocks(self.graph) if self.accounting.streamed else ()

    def _plain(self, compressed: set[str]) -> tuple[int, ...]:
        """Numbers of the blocks in which a layer keeps its input in a way of its own."""
        return tuple(
            number for number, block in enumerate(self._blocks) if compressed & {node.layer for node in block.nodes}
        )
