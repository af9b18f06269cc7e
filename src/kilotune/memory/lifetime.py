"""When every buffer of a training step lives: the part that a plan does not change, in steps of one timeline."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep, Compressed, Kept, StepGraph
from kilotune.graph.node import Conv2d, Node
from kilotune.graph.scratch import scratch
from kilotune.graph.tiles import Needs
from kilotune.memory.buffer import Buffer, Kind, aligned
from kilotune.memory.gradients import Gradients, Route
from kilotune.memory.rings import Size, is_depthwise, ring_elements, rows_in_place, turned
from kilotune.memory.segments import Segment
from kilotune.units import DTYPE_BYTES


@dataclass(frozen=True)
class Timeline:
    """The steps of one training step: forward nodes, the loss, backward nodes; and the buffers alive during them.

    Works in place wherever that is legal: element-wise functions and sums overwrite an operand that nobody reads again,
    and so do depthwise convolutions, row by row with a ring of rows as scratch.

    forward, backward: segments that run as one step in that pass: values and gradients inside them are never whole, their
    line buffers are scratch. image_bytes: bytes of one number of the image, where that is not a number like the others.
    needs: what ways of keeping need while they work.
    """

    step_graph: StepGraph
    batch: int = 1
    element_bytes: int = 4
    forward: tuple[Segment, ...] = ()
    backward: tuple[Segment, ...] = ()
    image_bytes: int | None = None
    needs: Needs = scratch

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What happens at each step; a segment has the name of its last node."""
        streamed = {segment.output.name for segment in self.forward}, {segment.output.name for segment in self.backward}
        forward = [_step_name("forward", group[-1], streamed[0]) for group in self.forward_groups]
        backward = [_step_name("backward", group[0].node, streamed[1]) for group in self.backward_groups]
        return (*forward, "loss", *backward)

    @cached_property
    def forward_groups(self) -> list[tuple[Node, ...]]:
        """The nodes that run at each step of the forward pass: a segment where its last node stands, or one node."""
        graph = self.step_graph.graph
        nodes = [node for node in graph.nodes if node.name not in graph.constants]
        ends = {segment.output.name: segment.nodes for segment in self.forward}
        inside = {node.name for segment in self.forward for node in segment.nodes}
        return [ends.get(node.name, (node,)) for node in nodes if node.name in ends or node.name not in inside]

    @cached_property
    def backward_groups(self) -> list[tuple[BackwardStep, ...]]:
        """The same for the backward pass; of a segment, those of its nodes that run backward, the last one first."""
        segment_of = {node.name: segment.output.name for segment in self.backward for node in segment.nodes}
        groups: dict[str, list[BackwardStep]] = {}
        for step in self.step_graph.steps:
            groups.setdefault(segment_of.get(step.node.name, step.node.name), []).append(step)
        return [tuple(group) for group in groups.values()]

    @cached_property
    def forward_at(self) -> dict[str, int]:
        """Step at which a node runs forward."""
        return {node.name: place for place, group in enumerate(self.forward_groups) for node in group}

    @cached_property
    def backward_at(self) -> dict[str, int]:
        """Step at which a node runs backward."""
        groups = enumerate(self.backward_groups, start=self.loss_at + 1)
        return {step.node.name: place for place, group in groups for step in group}

    @property
    def loss_at(self) -> int:
        """Step at which the loss and the gradient of the logits are computed."""
        return len(self.forward_groups)

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers of the step that do not depend on which channels are chosen."""
        return (*self._values[0], *self._rings(), *self._lines(), *self._masks(), *self._gradients.spans)

    @property
    def place(self) -> dict[str, str]:
        """Name of the buffer that holds each value; reshapes are under the value whose memory they are."""
        return self._values[1]

    @property
    def routes(self) -> dict[str, Route]:
        """Buffers of the gradients, by node of the backward step, of a segment by its last node."""
        return self._gradients.routes

    @cached_property
    def _gradients(self) -> Gradients:
        return Gradients(self)

    def nbytes(self, name: str) -> int:
        """Bytes of a value of the network."""
        node = self.step_graph.graph.node[name]
        info = node.output
        scale = 1 if info.batch_axis is None else self.batch
        width = self.element_bytes if info.is_float else DTYPE_BYTES[info.dtype]
        if self.image_bytes and isinstance(node.op, ops.Input):
            width = self.image_bytes
        return aligned(info.elements * scale * width)

    def _last_reads(self) -> dict[str, int]:
        """Last step that reads each root value; parameters have no buffer here, nor have values inside segments."""
        root = self.step_graph.graph.root
        last: dict[str, int] = {}
        for place, group in enumerate(self.forward_groups):
            for node in group:
                for name in node.inputs:
                    if root[name] in last:
                        last[root[name]] = place
            last.setdefault(root[group[-1].name], place)
        last[root[self.step_graph.graph.output]] = self.loss_at
        for step in self.step_graph.steps:
            for kept in step.kept:
                if kept.form == "value" and kept.root in last:
                    last[kept.root] = max(last[kept.root], self.backward_at[step.node.name])
        return last

    @cached_property
    def _values(self) -> tuple[list[Buffer], dict[str, str]]:
        root, last = self.step_graph.graph.root, self._last_reads()
        place: dict[str, str] = {}
        buffers: dict[str, Buffer] = {}
        for now, group in enumerate(self.forward_groups):
            node = group[-1]
            if root[node.name] != node.name:
                continue
            end, inputs = last[node.name], _overwritable(node) if len(group) == 1 else ()
            source = next((root[name] for name in inputs if self._may_overwrite(node, root[name], now, last)), None)
            if source is None:
                kind: Kind = "input" if isinstance(node.op, ops.Input) else "activation"
                place[node.name] = node.name
                buffers[node.name] = Buffer(node.name, self.nbytes(node.name), kind, node.layer, now, end)
                continue
            place[node.name] = place[source]
            buffers[place[source]] = buffers[place[source]].until(end)
        return list(buffers.values()), place

    def _rings(self) -> Iterator[Buffer]:
        """Rows that depthwise convolutions see at once, forward and backward."""
        for now, nodes in enumerate(self.forward_groups):
            if len(nodes) == 1 and is_depthwise(nodes[0]):
                yield self._ring(f"{nodes[0].name}.ring", nodes[0], nodes[0].op, now, False)
        for now, steps in enumerate(self.backward_groups, start=self.loss_at + 1):
            node = steps[0].node
            back = turned(node.op) if len(steps) == 1 and is_depthwise(node) and any(steps[0].wanted) else None
            if back is not None:
                yield self._ring(f"{node.name}.gradient.ring", node, back, now, True)

    def _lines(self) -> Iterator[Buffer]:
        """Line buffers of the segments."""
        for segment in self.forward:
            name, now = segment.output.name, self.forward_at[segment.output.name]
            nbytes = aligned(segment.forward_elements * self.element_bytes)
            yield Buffer(f"{name}.lines", nbytes, "scratch", segment.output.layer, now, now)
        for segment in self.backward:
            name, now = segment.output.name, self.backward_at[segment.output.name]
            nbytes = aligned(segment.backward_elements * self.element_bytes)
            yield Buffer(f"{name}.gradient.lines", nbytes, "scratch", segment.output.layer, now, now)

    def _ring(self, name: str, node: Node, op: ops.Op, now: int, backward: bool) -> Buffer:
        assert isinstance(op, Conv2d)
        size, output = self.sizes(node)
        elements = ring_elements(op, output, size) if backward else ring_elements(op, size, output)
        return Buffer(name, aligned(elements * self.element_bytes), "scratch", node.layer, now, now)

    def sizes(self, node: Node) -> tuple[Size, Size]:
        """(h, w) of a convolution's input and output."""
        (height, width), (rows, columns) = (
            self.step_graph.graph.node[node.inputs[0]].output.shape[2:],
            node.output.shape[2:],
        )
        return (height, width), (rows, columns)

    def _may_overwrite(self, node: Node, source: str, now: int, last: dict[str, int]) -> bool:
        if source not in last or last[source] != now:
            return False
        if isinstance(node.op, Conv2d):
            return rows_in_place(node.op, *self.sizes(node))
        return self.nbytes(source) == self.nbytes(node.name)

    def _masks(self) -> Iterator[Buffer]:
        for step in self.step_graph.steps:
            for kept in step.kept:
                if kept.form == "again":
                    now = self.backward_at[kept.node]
                    yield Buffer(kept.name, self.nbytes(kept.value), "scratch", kept.layer, now, now)
                if kept.form in ("compressed", "mask", "argmax"):
                    born, read = self.forward_at[kept.node], self.backward_at[kept.node]
                    yield Buffer(kept.name, aligned(kept.nbytes(self.batch)), "mask", kept.layer, born, read)
                if kept.compressed:
                    yield from self._compressing(kept, kept.compressed)

    def _compressing(self, kept: Kept, compressed: Compressed) -> Iterator[Buffer]:
        """What the way of keeping needs when it makes the compressed input, and when it makes gradients from it."""
        layer, channels = self.step_graph.graph.layer[kept.layer], compressed.channels
        needs = self.needs(compressed.way, layer, compressed.modes, self.batch, channels)
        steps = self.forward_at[kept.node], self.backward_at[kept.node]
        for suffix, now, charge in zip(("making", "reading"), steps, needs, strict=True):
            nbytes = (charge.once + channels * charge.unit) * self.element_bytes
            yield Buffer(f"{kept.name}.{suffix}", nbytes, "scratch", kept.layer, now, now)


def _step_name(direction: str, node: Node, streamed: set[str]) -> str:
    return f"{'streamed ' * (node.name in streamed)}{direction} {node.name}"


def _overwritable(node: Node) -> tuple[str, ...]:
    """Inputs that the node may overwrite with its output, best first."""
    if isinstance(node.op, ops.Add):
        return node.inputs
    element_wise = isinstance(node.op, ops.Activation | ops.Affine | ops.BatchNorm | ops.Dropout)
    return node.inputs[:1] if is_depthwise(node) or element_wise else ()
