"""Where the gradients of a training step lie, from the loss back to the deepest trained layer."""

from typing import TYPE_CHECKING, NamedTuple

from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Node
from kilotune.memory.buffer import Buffer
from kilotune.memory.rings import is_depthwise, rows_in_place, turned

if TYPE_CHECKING:
    from kilotune.memory.lifetime import Timeline


class Arrival(NamedTuple):
    """The gradient of ``value`` made by a backward step goes to ``buffer``, added to the one in ``held`` if there is one."""

    value: str
    buffer: str
    held: str | None


class Route(NamedTuple):
    """Where a backward step or segment finds its output's gradient, and where those of its wanted inputs go, in their order."""

    arriving: str
    inputs: tuple[Arrival, ...]


class Gradients:
    """Follows the gradients through the backward pass; several values may share one buffer until someone writes to it."""

    def __init__(self, timeline: "Timeline"):
        self.timeline = timeline
        self.holder: dict[str, int] = {}
        self.spans: list[Buffer] = []
        self.routes: dict[str, Route] = {}
        graph = timeline.step_graph.graph
        if timeline.step_graph.steps:
            self._new(graph.output, timeline.loss_at)
        for now, group in enumerate(timeline.backward_groups, start=timeline.loss_at + 1):
            if len(group) > 1:
                self._run_segment(group, now)
            else:
                self._run(group[0], now)

    def _new(self, value: str, now: int) -> None:
        layer = self.timeline.step_graph.graph.node[value].layer
        self.holder[value] = len(self.spans)
        self.spans.append(Buffer(f"{value}.gradient.{now}", self.timeline.nbytes(value), "gradient", layer, now, now))

    def _touch(self, number: int, now: int) -> None:
        self.spans[number] = self.spans[number].until(now)

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

    def _run_segment(self, group: tuple[BackwardStep, ...], now: int) -> None:
        """The gradient of the output is read to the end, that of the source is summed up meanwhile."""
        output = group[0].node.name
        arriving = self.holder.pop(output)
        self._touch(arriving, now)
        inside = {step.node.name for step in group}
        pairs = [pair for step in group for pair in zip(step.node.inputs, step.wanted, strict=True)]
        source = next((name for name, needed in pairs if needed and name not in inside), None)
        arrivals = []
        if source is not None:
            self._new(source, now)
            arrivals.append(Arrival(source, self.spans[self.holder[source]].name, None))
        self.routes[output] = Route(self.spans[arriving].name, tuple(arrivals))

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
