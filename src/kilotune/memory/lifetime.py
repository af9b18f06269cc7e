"""When every buffer of a training step lives: the part that a plan does not change, in steps of one timeline."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep, StepGraph, root_of
from kilotune.graph.node import Conv2d, Node
from kilotune.memory.rings import Size, is_depthwise, ring_elements, rows_in_place, turned
from kilotune.units import DTYPE_BYTES

Kind = Literal["input", "activation", "mask", "gradient", "scratch"]

_ALIGNMENT = 4


@dataclass(frozen=True)
class Buffer:
    """``nbytes`` alive from step ``first`` to step ``last``, both included."""

    name: str
    nbytes: int
    kind: Kind
    layer: str
    first: int
    last: int

    def overlaps(self, other: "Buffer") -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


class Arrival(NamedTuple):
    """The gradient of ``value`` made by a backward step goes to ``buffer``, added to the one in ``held`` if there is one."""

    value: str
    buffer: str
    held: str | None


class Route(NamedTuple):
    """Where a backward step finds the gradient of its output, and where those of its wanted inputs go, in their order."""

    arriving: str
    inputs: tuple[Arrival, ...]


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to a multiple of four, the alignment of every buffer on a device."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class Timeline:
    """The steps of one training step: forward nodes, the loss, backward nodes; and the buffers alive during them.

    Works in place wherever that is legal: element-wise functions and sums overwrite an operand that nobody reads again,
    and so do depthwise convolutions, row by row with a ring of rows as scratch.
    """

    step_graph: StepGraph
    batch: int = 1
    element_bytes: int = 4

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What happens at each step."""
        forward = [f"forward {node.name}" for node in self._forward]
        return (*forward, "loss", *(f"backward {step.node.name}" for step in self.step_graph.steps))

    @cached_property
    def forward_at(self) -> dict[str, int]:
        """Step at which a node runs forward."""
        return {node.name: place for place, node in enumerate(self._forward)}

    @cached_property
    def backward_at(self) -> dict[str, int]:
        """Step at which a node runs backward."""
        return {step.node.name: self.loss_at + 1 + place for place, step in enumerate(self.step_graph.steps)}

    @property
    def loss_at(self) -> int:
        """Step at which the loss and the gradient of the logits are computed."""
        return len(self._forward)

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """All buffers of the step that do not depend on which channels are chosen."""
        return (*self._values[0], *self._rings(), *self._masks(), *self._gradients.spans)

    @property
    def place(self) -> dict[str, str]:
        """Name of the buffer that holds each value; reshapes are under the value whose memory they are."""
        return self._values[1]

    @property
    def routes(self) -> dict[str, Route]:
        """Buffers of the gradients, by node of the backward step."""
        return self._gradients.routes

    @cached_property
    def _gradients(self) -> "_Gradients":
        return _Gradients(self)

    @cached_property
    def _forward(self) -> list[Node]:
        graph = self.step_graph.graph
        return [node for node in graph.nodes if node.name not in graph.constants]

    def nbytes(self, name: str) -> int:
        """Bytes of a value of the network."""
        info = self.step_graph.graph.node[name].output
        scale = 1 if info.batch_axis is None else self.batch
        return aligned(info.elements * scale * (self.element_bytes if info.is_float else DTYPE_BYTES[info.dtype]))

    def _last_reads(self) -> dict[str, int]:
        """Last step that reads each root value; parameters have no buffer here."""
        root = root_of(self.step_graph.graph)
        last: dict[str, int] = {}
        for node in self._forward:
            last.setdefault(root[node.name], self.forward_at[node.name])
            for name in node.inputs:
                if root[name] in last:
                    last[root[name]] = self.forward_at[node.name]
        last[root[self.step_graph.graph.output]] = self.loss_at
        for step in self.step_graph.steps:
            for kept in step.kept:
                if kept.form == "value" and kept.root in last:
                    last[kept.root] = max(last[kept.root], self.backward_at[step.node.name])
        return last

    @cached_property
    def _values(self) -> tuple[list[Buffer], dict[str, str]]:
        root, last = root_of(self.step_graph.graph), self._last_reads()
        place: dict[str, str] = {}
        buffers: dict[str, Buffer] = {}
        for node in self._forward:
            if root[node.name] != node.name:
                continue
            now, end = self.forward_at[node.name], last[node.name]
            source = next(
                (root[name] for name in _overwritable(node) if self._may_overwrite(node, root[name], now, last)), None
            )
            if source is None:
                kind: Kind = "input" if isinstance(node.op, ops.Input) else "activation"
                place[node.name] = node.name
                buffers[node.name] = Buffer(node.name, self.nbytes(node.name), kind, node.layer, now, end)
                continue
            place[node.name] = place[source]
            buffers[place[source]] = replace(buffers[place[source]], last=max(buffers[place[source]].last, end))
        return list(buffers.values()), place

    def _rings(self) -> Iterator[Buffer]:
        """Rows that depthwise convolutions see at once, forward and backward."""
        for node in self._forward:
            if is_depthwise(node):
                yield self._ring(f"{node.name}.ring", node, node.op, self.forward_at[node.name], False)
        for step in self.step_graph.steps:
            back = turned(step.node.op) if is_depthwise(step.node) and any(step.wanted) else None
            if back is not None:
                yield self._ring(
                    f"{step.node.name}.gradient.ring", step.node, back, self.backward_at[step.node.name], True
                )

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


def _overwritable(node: Node) -> tuple[str, ...]:
    """Inputs that the node may overwrite with its output, best first."""
    if isinstance(node.op, ops.Add):
        return node.inputs
    element_wise = isinstance(node.op, ops.Activation | ops.Affine | ops.BatchNorm | ops.Dropout)
    return node.inputs[:1] if is_depthwise(node) or element_wise else ()


class _Gradients:
    """Follows the gradients through the backward pass; several values may share one buffer until someone writes to it."""

    def __init__(self, timeline: Timeline):
        self.timeline = timeline
        self.holder: dict[str, int] = {}
        self.spans: list[Buffer] = []
        self.routes: dict[str, Route] = {}
        graph = timeline.step_graph.graph
        if timeline.step_graph.steps:
            self._new(graph.output, timeline.loss_at)
        for step in timeline.step_graph.steps:
            self._run(step, timeline.backward_at[step.node.name])

    def _new(self, value: str, now: int) -> None:
        layer = self.timeline.step_graph.graph.node[value].layer
        self.holder[value] = len(self.spans)
        self.spans.append(Buffer(f"{value}.gradient.{now}", self.timeline.nbytes(value), "gradient", layer, now, now))

    def _touch(self, number: int, now: int) -> None:
        self.spans[number] = replace(self.spans[number], last=now)

    def _shared(self, number: int) -> bool:
        return number in self.holder.values()

    def _run(self, step: BackwardStep, now: int) -> None:
        arriving = self.holder.pop(step.node.name)
        self._touch(arriving, now)
        wanted = [name for name, needed in zip(step.node.inputs, step.wanted, strict=True) if needed]
        arrivals = []
        for place, name in enumerate(wanted, start=1):
            held = self.spans[self.holder[name]].name if name in self.holder else None
            if held:
                self._accumulate(name, now, still_read=arriving if place < len(wanted) else None)
            elif self._passes_on(step, name, arriving):
                self.holder[name] = arriving
            else:
                self._new(name, now)
            arrivals.append(Arrival(name, self.spans[self.holder[name]].name, held))
        self.routes[step.node.name] = Route(self.spans[arriving].name, tuple(arrivals))

    def _accumulate(self, name: str, now: int, still_read: int | None) -> None:
        """Add to a gradient where it stands, unless others hold its buffer or the rest of this step still reads it."""
        number = self.holder.pop(name)
        self._touch(number, now)
        if self._shared(number) or number == still_read:
            self._new(name, now)
        else:
            self.holder[name] = number

    def _passes_on(self, step: BackwardStep, name: str, arriving: int) -> bool:
        """Whether the gradient of an input may take the buffer of the gradient that arrives."""
        same_size = self.spans[arriving].nbytes == self.timeline.nbytes(name)
        if isinstance(step.node.op, ops.Reshape | ops.Add):
            return same_size
        in_place = isinstance(step.node.op, ops.Activation | ops.Affine | ops.BatchNorm | ops.Dropout | ops.Softmax)
        return (in_place or self._turns_in_place(step.node)) and same_size and not self._shared(arriving)

    def _turns_in_place(self, node: Node) -> bool:
        """Whether the input gradient of a depthwise convolution may overwrite the gradient of its output, row by row."""
        back = turned(node.op) if is_depthwise(node) else None
        size, output = self.timeline.sizes(node) if back else ((0, 0), (0, 0))
        return back is not None and rows_in_place(back, output, size)
