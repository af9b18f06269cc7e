"""A training step executed byte by byte on labels: whoever reads must find what was written, untouched.

Knows the rules of the network from the StepGraph alone; from the planner it takes buffers and offsets, nothing else.
"""

import numpy as np

from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep, StepGraph
from kilotune.memory.arena import Arena
from kilotune.memory.lifetime import Timeline

PASSES_GRADIENT_ON = ops.Add | ops.Reshape


class Interpreter:
    """Memory is one label per byte; a value is intact as long as all its bytes carry its label."""

    def __init__(self, timeline: Timeline, arena: Arena):
        self.timeline, self.step_graph = timeline, timeline.step_graph
        self.graph = self.step_graph.graph
        self.root = self.graph.root
        self.memory = np.zeros(arena.nbytes, dtype=np.int64)
        self.place = {b.name: (b, offset) for b, offset in zip(arena.buffers, arena.offsets, strict=True)}
        self.labels = 0
        self.sizes: dict[int, int] = {}  # bytes of a label that does not fill its buffer
        self.reads = 0
        self.values: dict[str, tuple[str, int]] = {}  # value -> (buffer, label)
        self.gradients: dict[str, tuple[str, int]] = {}
        self.last_read = _last_reads(self.step_graph, timeline)

    def run(self) -> int:
        """Execute everything; the number of reads that were checked. Raises AssertionError at the first damaged read."""
        now = 0
        for nodes in self.timeline.forward_groups:
            self._forward(nodes[0], now) if len(nodes) == 1 else self._forward_segment(nodes, now)
            now += 1
        self._read(*self.values[self.root[self.graph.output]], now)
        if self.step_graph.steps:
            self.gradients[self.graph.output] = self._write(f"{self.graph.output}.gradient.{now}", now)
        for steps in self.timeline.backward_groups:
            now += 1
            self._backward(steps[0], now) if len(steps) == 1 else self._backward_segment(steps, now)
        assert now == len(self.timeline.names) - 1
        return self.reads

    def _span(self, buffer: str, now: int, nbytes: int | None = None) -> slice:
        described, offset = self.place[buffer]
        assert described.first <= now <= described.last, f"{buffer} is not alive at step {now}"
        assert nbytes is None or nbytes <= described.nbytes
        return slice(offset, offset + (described.nbytes if nbytes is None else nbytes))

    def _write(self, buffer: str, now: int, nbytes: int | None = None) -> tuple[str, int]:
        self.labels += 1
        self.memory[self._span(buffer, now, nbytes)] = self.labels
        return buffer, self.labels

    def _read(self, buffer: str, label: int, now: int) -> None:
        described, offset = self.place[buffer]
        span = self.memory[offset : offset + described.nbytes]
        n_intact = int((span == label).sum())
        assert n_intact > 0, f"{buffer} was overwritten before step {now} ({self.timeline.names[now]})"
        assert n_intact == self.sizes.get(label, described.nbytes), f"{buffer} was damaged before step {now}"
        assert described.first <= now <= described.last
        self.reads += 1

    def _forward(self, node, now: int) -> None:
        name = node.name
        if f"{name}.ring" in self.place:
            self._write(f"{name}.ring", now)
        inputs = [self.root[i] for i in node.inputs if self.root[i] in self.values]
        for source in inputs:
            self._read(*self.values[source], now)
        if self.root[name] == name:
            buffer = name if name in self.place else self._overwritten(node, inputs, now)
            nbytes = self.timeline.nbytes(name)
            self.values[name] = self._write(buffer, now, nbytes)
            self.sizes[self.values[name][1]] = nbytes
        for form in ("mask", "argmax"):
            if f"{name}.{form}" in self.place:
                self.values[f"{name}.{form}"] = self._write(f"{name}.{form}", now)

    def _forward_segment(self, nodes, now: int) -> None:
        """Reads and writes row by row, in any order: all that is there must be there at once."""
        inside = {node.name for node in nodes}
        sources = {self.root[name] for node in nodes for name in node.inputs if name not in inside}
        written = [nodes[-1].name, f"{nodes[-1].name}.lines"]
        written += [name for node in nodes for name in (f"{node.name}.mask",) if name in self.place]
        self.values |= {name: self._write(name, now) for name in written}
        for name in [*written, *sorted(sources)]:
            self._read(*self.values[name], now)
        assert not inside - {nodes[-1].name} & self.place.keys()

    def _backward_segment(self, steps: tuple[BackwardStep, ...], now: int) -> None:
        """The same; the gradients of its sources are new."""
        inside = {step.node.name for step in steps}
        arriving = self.gradients.pop(steps[0].node.name)
        wanted = {name for step in steps for name, w in zip(step.node.inputs, step.wanted, strict=True) if w} - inside
        lines = self._write(f"{steps[0].node.name}.gradient.lines", now)
        for name in wanted:
            assert name not in self.gradients
            self.gradients[name] = self._write(f"{name}.gradient.{now}", now)
        for step in steps:
            for kept in step.kept:
                if kept.form != "channels" and kept.root not in self.graph.constants:
                    self._read(*self.values[kept.root if kept.form == "value" else kept.name], now)
        for held in (arriving, lines, *(self.gradients[name] for name in wanted)):
            self._read(*held, now)

    def _overwritten(self, node, inputs: list[str], now: int) -> str:
        """The buffer of the input that the planner wants overwritten: one that lives as long as the result is read."""
        assert not isinstance(node.op, ops.Mul | ops.MatMul | ops.Softmax | ops.LayerNorm | ops.MaxPool)
        for source in inputs:
            buffer, _ = self.values[source]
            enough = self.place[buffer][0].nbytes >= self.timeline.nbytes(node.name)
            if enough and self.last_read[source] == now and self.place[buffer][0].last >= self.last_read[node.name]:
                return buffer
        raise AssertionError(f"{node.name} has neither a buffer nor an input that may be overwritten")

    def _backward(self, step: BackwardStep, now: int) -> None:
        arriving = self.gradients.pop(step.node.name)
        if f"{step.node.name}.gradient.ring" in self.place:
            self._write(f"{step.node.name}.gradient.ring", now)
        self._read(*arriving, now)
        for kept in step.kept:
            if kept.form == "channels" or kept.root in self.graph.constants:
                continue
            self._read(*self.values[kept.root if kept.form in ("value", "again") else kept.name], now)
        for name, wanted in zip(step.node.inputs, step.wanted, strict=True):
            if wanted:
                self._read(*arriving, now)
                self._propagate(step, name, arriving, now)

    def _propagate(self, step: BackwardStep, name: str, arriving: tuple[str, int], now: int) -> None:
        fresh = f"{name}.gradient.{now}"
        if name in self.gradients:
            self._read(*self.gradients[name], now)
            self.gradients[name] = self._write(fresh if fresh in self.place else self.gradients[name][0], now)
        elif fresh in self.place:
            self.gradients[name] = self._write(fresh, now)
        else:
            assert self.place[arriving[0]][0].nbytes == self.timeline.nbytes(name)
            untouched = isinstance(step.node.op, PASSES_GRADIENT_ON)
            self.gradients[name] = arriving if untouched else self._write(arriving[0], now)


def _last_reads(step_graph: StepGraph, timeline: Timeline) -> dict[str, int]:
    """Last step at which each value is read, found by going through all readers."""
    graph, root = step_graph.graph, step_graph.graph.root
    last: dict[str, int] = {}
    for place, nodes in enumerate(timeline.forward_groups):
        for node in nodes:
            for name in (node.name, *(root[name] for name in node.inputs)):
                last[name] = max(last.get(name, 0), place)
    last[root[graph.output]] = max(last[root[graph.output]], len(timeline.forward_groups))
    for place, steps in enumerate(timeline.backward_groups, start=len(timeline.forward_groups) + 1):
        for step in steps:
            for kept in step.kept:
                if kept.form == "value":
                    last[kept.root] = max(last.get(kept.root, 0), place)
    return last
