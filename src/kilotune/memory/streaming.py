"""Which blocks run plainly and which are streamed: the fullest step as small as possible, then few instructions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from kilotune.graph.backward import StepGraph
from kilotune.graph.node import Node
from kilotune.graph.scratch import scratch
from kilotune.graph.tiles import Needs
from kilotune.memory import buffer
from kilotune.memory.instructions import extra_backward, extra_forward
from kilotune.memory.lifetime import Timeline
from kilotune.memory.segments import Block, Mode, Segment, chain_from_input, find_blocks

MOST_EXTRA = 1 / 8
"""Rows are made again for at most this part of the forward pass's multiply-adds."""

_IMAGE_BYTES = 1


class Trade(NamedTuple):
    """What streaming one segment does: bytes alive at its fullest step, run plainly and as it runs; multiply-adds and, about,
    instructions of a Cortex-M4F beyond those of running it plainly."""

    layer: str
    direction: str
    modes: tuple[Mode, ...]
    plain_bytes: int
    bytes: int
    extra_macs: int
    extra_instructions: int


class _Peaks(NamedTuple):
    """Most bytes alive before and after channels start to be kept; the second leave less room."""

    before: int
    after: int

    def within(self, other: "_Peaks") -> bool:
        return self.before <= other.before and self.after <= other.after


def stream(
    step_graph: StepGraph, element_bytes: int = 4, compressed: frozenset[str] = frozenset(), needs: Needs = scratch
) -> Timeline:
    """The timeline of a device that sees one sample at a time, in which blocks are streamed where that saves memory.

    A block is streamed if the fullest step before the first kept channels, or after, would be fuller without.
    compressed: layers that keep their input in a way for which it has to be there as a whole; needs: of these ways.
    """
    return _Search(step_graph, element_bytes, compressed, needs).run()


def trades(timeline: Timeline) -> tuple[Trade, ...]:
    """What each streamed segment of ``timeline`` does, forward pass first."""
    plain = Timeline(timeline.step_graph, timeline.batch, timeline.element_bytes, needs=timeline.needs)
    before, now = live_bytes(plain), live_bytes(timeline)
    rows = []
    for direction, segments in (("forward", timeline.forward), ("backward", timeline.backward)):
        for segment in segments:
            theirs = plain.forward_at if direction == "forward" else plain.backward_at
            ours = timeline.forward_at if direction == "forward" else timeline.backward_at
            fullest = max(int(before[theirs[node.name]]) for node in segment.nodes if node.name in theirs)
            alive = int(now[ours[segment.output.name]])
            macs, cost = (segment.extra_macs, _forward_cost) if direction == "forward" else (0, _backward_cost)
            rows.append(Trade(segment.nodes[0].layer, direction, segment.modes, fullest, alive, macs, cost(segment)))
    return tuple(rows)


def live_bytes(timeline: Timeline) -> np.ndarray:
    """Bytes alive at each step (steps,), kept channels excluded."""
    return buffer.live_bytes(timeline.buffers, len(timeline.names))


def _forward_cost(segment: Segment) -> int:
    """Instructions beyond those of the plain forward pass."""
    return sum(extra_forward(block, mode) for block, mode in zip(segment.blocks, segment.modes, strict=True))


def _backward_cost(segment: Segment) -> int:
    """The same of the backward pass."""
    return sum(extra_backward(block) for block in segment.blocks)


@dataclass(frozen=True)
class _Choice:
    front: Segment | None
    forward: tuple[Block, ...]
    backward: tuple[Block, ...]

    @property
    def forward_cost(self) -> int:
        """Instructions beyond those of the plain forward pass."""
        front = _forward_cost(self.front) if self.front else 0
        return front + sum(extra_forward(block, "channels") for block in self.forward)


class _Judged(NamedTuple):
    choice: _Choice
    peaks: _Peaks


def _by_rows(block: Block) -> tuple[Mode, ...]:
    return ("lines", "again") if block.head else ("again",)


def _without(blocks: tuple[Block, ...], block: Block) -> tuple[Block, ...]:
    return tuple(one for one in blocks if one is not block)


class _Search:
    def __init__(self, step_graph: StepGraph, element_bytes: int, compressed: frozenset[str], needs: Needs):
        self.step_graph = step_graph
        self.plain = Timeline(step_graph, 1, element_bytes, needs=needs)
        self.steps = {step.node.name: step for step in step_graph.steps}
        whole = {kept.root for kept in step_graph.kept if kept.form == "value"}
        self.blocks = [
            block
            for block in find_blocks(step_graph.graph)
            if not whole & set(block.inner) and not compressed & {node.layer for node in block.nodes}
        ]

    def run(self) -> Timeline:
        """Stream everything, then let run plainly what does not make the fullest step fuller, the dearest first."""
        backward = tuple(block for block in self.blocks if self._runs_backward(block))
        fronts = [self._judged(_Choice(front, self._behind(front), backward)) for front in self._fronts()]
        least = min(judged.peaks for judged in fronts)
        fitting = [judged for judged in fronts if judged.peaks.within(least)]
        best = min(fitting, key=lambda one: one.choice.forward_cost)
        for block in sorted(best.choice.forward, key=lambda one: -extra_forward(one, "channels")):
            best = self._simpler(best, forward=_without(best.choice.forward, block))
        for block in sorted(best.choice.backward, key=lambda one: -extra_backward(one)):
            best = self._simpler(best, backward=_without(best.choice.backward, block))
        return self._timeline(self._simpler(best, front=None, forward=(), backward=()).choice)

    def _simpler(self, best: _Judged, **parts: Any) -> _Judged:
        """``best`` with other ``parts``, if no step is then fuller."""
        choice = replace(best.choice, **parts)
        if choice == best.choice:
            return best
        simpler = self._judged(choice)
        return simpler if simpler.peaks.within(best.peaks) else best

    def _fronts(self) -> Iterator[Segment | None]:
        """Ways to start: row by row from the image through one block or more, none of which runs backward."""
        yield None
        chain = chain_from_input(self.step_graph.graph, self.blocks)
        for length in range(1, len(chain) + 1):
            blocks = chain[:length]
            if any(node.name in self.steps for block in blocks for node in block.nodes):
                return
            for modes in product(*(_by_rows(block) for block in blocks)):
                segment = Segment(blocks, modes, as_bytes=True)
                if segment.extra_macs <= MOST_EXTRA * self.step_graph.graph.macs:
                    yield segment

    def _behind(self, front: Segment | None) -> tuple[Block, ...]:
        """Blocks that can run by channels; the trained part of a wide kernel of a head cannot."""
        return tuple(
            block
            for block in self.blocks
            if (front is None or block not in front.blocks) and (block.is_pointwise or not self._is_trained(block.head))
        )

    def _is_trained(self, node: Node | None) -> bool:
        return node is not None and node.name in self.steps

    def _runs_backward(self, block: Block) -> bool:
        """Whether there is a gradient of middle channels, and the kernels can pass it on."""
        can = block.is_pointwise or not self._is_trained(block.head)
        return can and block.depthwise.name in self.steps and block.function_behind(block.projection) is None

    def _timeline(self, choice: _Choice) -> Timeline:
        forward = tuple(Segment((block,), ("channels",)) for block in choice.forward)
        return replace(
            self.plain,
            forward=((choice.front, *forward) if choice.front else forward),
            backward=tuple(Segment((block,), ("channels",)) for block in choice.backward),
            image_bytes=_IMAGE_BYTES if choice.front else None,
        )

    def _judged(self, choice: _Choice) -> _Judged:
        timeline = self._timeline(choice)
        live = live_bytes(timeline)
        born = timeline.forward_at[self.step_graph.steps[-1].node.name] if self.step_graph.steps else len(live)
        return _Judged(choice, _Peaks(int(live[:born].max(initial=0)), int(live[born:].max(initial=0))))
