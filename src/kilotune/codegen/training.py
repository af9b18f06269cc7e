"""The backward pass as lines: gradients of inputs and of what is trained, and updates in the order that memory allows."""

from collections.abc import Iterator

from kilotune.codegen.again import make_again
from kilotune.codegen.backward import bias_gradient, input_gradients, weight_gradient
from kilotune.codegen.keeping import read_input
from kilotune.codegen.program import Argument, Call, Comment, EachChannel, Line, Name, Probe
from kilotune.codegen.streamed import backward_segment
from kilotune.codegen.values import NOTHING, Values
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Node

RULE = Name("rule")
STEP = Name("present.n_steps")


class Training:
    """What a project does after the loss."""

    def __init__(self, values: Values):
        self.v, self.region = values, values.region
        self.timeline = values.region.layout.timeline

    def backward(self) -> Iterator[Line]:
        """The backward pass; where gradients are not summed, with its updates."""
        segments = {segment.output.name: segment for segment in self.timeline.backward}
        for group in self.timeline.backward_groups:
            yield Comment(title(group[0].node))
            route, segment = self.timeline.routes[group[0].node.name], segments.get(group[0].node.name)
            dy = self.region.buffer(route.arriving)
            if segment is None:
                yield from self._around(group[0], dy, input_gradients(self.v, group[0]))
            else:
                step = STEP if self._observes else 0
                calls = backward_segment(self.v, group, segment, step)
                yield from self._around(
                    next(one for one in group if one.node.name == segment.blocks[0].projection.name), dy, calls
                )
            for arrival in route.inputs:
                number, n = self.v.number[arrival.value], self.v.elements(arrival.value)
                yield Probe("GRADIENT", number, self.region.buffer(arrival.buffer), n)

    def _around(self, step: BackwardStep, dy: Argument, calls: Iterator[Line]) -> Iterator[Line]:
        """The gradients of what a node trains, those of its inputs as ``calls``, and updates: of a bias, which no ``calls`` read,
        before them, of a weight after them."""
        by_channel = not self.region.accumulate and not self.region.gradient_is_whole(step.node.name)
        yield from self._bias(step, dy)
        if not self.region.accumulate:
            yield from self._bias_update(step.node)
        if not by_channel:
            yield from self._weight_gradient(step, dy)
        yield from calls
        if by_channel:
            yield from self._each_channel(step, dy)
        elif not self.region.accumulate:
            yield from self._weight_update(step.node)

    def _weight_gradient(self, step: BackwardStep, dy: Argument) -> Iterator[Line]:
        number = self.v.slice_number(step.node)
        if number is not None:
            if not self.region.accumulate:
                yield Call("kt_slice_clear", (Name(f"&kt_slices[{number}]"), Name(f"&kt_layers[{number}]")))
            yield from make_again(self.v, step)
            yield from self._gradient_of(step.node, Name(f"&kt_slices[{number}]"), dy)

    def _gradient_of(self, node: Node, piece: Name, dy: Argument) -> Iterator[Line]:
        return read_input(self.v, node, piece, dy, lambda some: weight_gradient(self.v, node, some, dy))

    def _bias(self, step: BackwardStep, dy: Argument) -> Iterator[Line]:
        if step.bias:
            at = self._bias_gradient(step.node)
            if not self.region.accumulate:
                yield Call("kt_zero", (at, self.v.layer_of[step.node.name].out_channels))
            yield from bias_gradient(self.v, step.node, at, dy)

    def _each_channel(self, step: BackwardStep, dy: Argument) -> Iterator[Line]:
        """Gradient and update of one channel after another."""
        number, one = self.v.slice_number(step.node), Name("&one")
        if number is not None:
            layer = self.v.layer_of[step.node.name]
            calls: list[Line] = [Call("kt_slice_clear", (one, Name(f"&kt_layers[{number}]")))]
            calls += [*self._gradient_of(step.node, one, dy), *self._update(step.node, number, one)]
            at = self.region.passing(step.node.name, layer.channel_weight_elements)
            yield from make_again(self.v, step)
            yield EachChannel(number, at, tuple(calls))

    def _bias_gradient(self, node: Node) -> Argument:
        trained = self.region.trained[f"{node.layer}.bias"]
        return trained.gradient or self.region.passing(node.name, trained.elements)

    def _weight_update(self, node: Node) -> Iterator[Call]:
        number = self.v.slice_number(node)
        if number is not None:
            yield from self._update(node, number, Name(f"&kt_slices[{number}]"))

    def _update(self, node: Node, number: int, piece: Name) -> Iterator[Call]:
        row = piece, Name(f"&kt_layers[{number}]")
        norms = self.v.norms(number)
        if norms is not None:
            yield Call("kt_observe_slice", (*row, Name("rule.share"), norms, STEP))
        yield Call("kt_sgd_slice", (*row, self.v.weight_scale(node), RULE))

    def _bias_update(self, node: Node) -> Iterator[Call]:
        layer = self.v.layer_of.get(node.name)
        trained = self.region.trained.get(f"{layer.name}.bias") if layer else None
        if trained is not None:
            gradient = self._bias_gradient(node)
            places = (trained.value, gradient, trained.velocity or NOTHING, self.v.bias_scale(node))
            yield Call("kt_sgd", (*places, trained.elements, 1, RULE))

    def apply(self) -> Iterator[Line]:
        """The updates along summed gradients."""
        if self.region.accumulate:
            for step in self.timeline.step_graph.steps:
                yield from self._weight_update(step.node)
                yield from self._bias_update(step.node)

    @property
    def _observes(self) -> bool:
        return self.v.drawing is not None and self.v.drawing.function == "medyate"


def title(node: Node) -> str:
    """What a node is called in a comment."""
    return f"{node.op.kind} {node.layer}" if node.layer and node.layer != node.name else node.name
