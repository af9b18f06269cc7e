"""From a network, a plan and the layout of its memory to a ``Program``: every decision that the printed text rests on."""

from collections.abc import Iterator
from dataclasses import replace

from kilotune.codegen import neurons
from kilotune.codegen.again import make_again
from kilotune.codegen.backward import bias_gradient, input_gradients, weight_gradient
from kilotune.codegen.check import check
from kilotune.codegen.forward import FORWARD
from kilotune.codegen.numbers import SUFFIX
from kilotune.codegen.program import (
    Argument,
    Call,
    Checked,
    Comment,
    Draws,
    EachChannel,
    Line,
    Name,
    Place,
    Probe,
    Program,
)
from kilotune.codegen.streamed import backward_segment, forward_segment
from kilotune.codegen.tables import Tables
from kilotune.codegen.values import NOTHING, Values
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Graph, Node
from kilotune.update_plan import UpdatePlan

RULE = Name("rule")
STEP = Name("present.n_steps")


def without_dropout(graph: Graph) -> Graph:
    """The network as a device runs it: dropout, which would need random bits in every step, is left out."""
    same: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        if isinstance(node.op, ops.Dropout):
            same[node.name] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    return replace(graph, nodes=tuple(nodes), output=same.get(graph.output, graph.output))


def decide(values: Values, plan: UpdatePlan, momentum: float = 0.0) -> Program:
    """The program that trains ``plan`` on one sample after another.

    Raises ExportError listing every node that has no kernel.
    """
    check(values, plan)
    return _Decision(values, plan).program(momentum)


class _Decision:
    def __init__(self, values: Values, plan: UpdatePlan):
        self.v, self.plan, self.region = values, plan, values.region
        self.timeline = values.region.layout.timeline
        self.tables = Tables(values, plan)

    def program(self, momentum: float) -> Program:
        v, graph = self.v, self.v.graph
        infer = tuple(self._forward(keeping=False))
        forward, backward = tuple(self._forward(keeping=True)), tuple(self._backward())
        start, apply = tuple(self._start()), tuple(self._apply())
        tables, draws = self.tables.structs(), self._draws()
        output = v.value(graph.output)
        assert isinstance(output, Place)
        return Program(
            arena_bytes=self.region.nbytes,
            fixed_bytes=self.region.layout.arena.nbytes,
            image=self.region.buffer(graph.nodes[0].name)._replace(as_bytes=self.region.reads_bytes),
            image_elements=v.elements(graph.nodes[0].name),
            image_is_bytes=self.region.reads_bytes,
            logits=output,
            classes=v.elements(graph.output),
            constants=tuple(v.constants.values()),
            structs=(*v.structs.values(), *tables),
            start=start,
            infer=infer,
            forward=forward,
            loss_gradient=self._loss_gradient(),
            backward=backward,
            apply=apply,
            accumulates=self.region.accumulate,
            trained=tuple(self.region.trained.values()),
            slices=tuple(layer.name for layer in self.tables.sliced),
            resident_bytes=self.region.nbytes - self.tables.lowest(),
            momentum=momentum,
            draws=draws,
        )

    def _draws(self) -> Draws | None:
        drawing, region = self.v.drawing, self.region
        if drawing is None:
            return None
        lowest = self.tables.lowest()
        if drawing.scratch_bytes > lowest:
            raise ExportError(
                f"a draw needs {drawing.scratch_bytes:,} B of scratch, the arena has {lowest:,} B beside what stays"
            )
        at_once = region.layout.accounting.layer_gradients
        whole = [layer for layer in self.tables.sliced[len(region.pool) :] if at_once]
        return Draws(
            drawing,
            Place(region.top),
            region.state,
            region.copies,
            tuple(self._initial_weights()),
            4 * sum(layer.weight_elements for layer in region.pool),
            self.tables.below_its_bias(whole[0]) if whole else None,
            len(self.tables.sliced) > len(region.pool),
        )

    def _initial_weights(self) -> Iterator[Line]:
        for layer in self.region.pool:
            node = self.v.graph.node[layer.node]
            weight, scale = self.v.exported_weight(node)
            suffix, n = SUFFIX[self.v.dtype], layer.weight_elements
            per_scale = n // layer.out_channels
            yield Checked(Call(f"kt_store_append_{suffix}", (Name("&store"), weight, scale, n, per_scale)))

    def _loss_gradient(self) -> Place:
        if not self.timeline.step_graph.steps:
            raise ExportError("the plan trains nothing; train at least the classifier")
        return self.region.buffer(self.timeline.routes[self.timeline.step_graph.steps[0].node.name].arriving)

    def _forward(self, keeping: bool) -> Iterator[Line]:
        segments = {segment.output.name: segment for segment in self.timeline.forward}
        for node in (group[-1] for group in self.timeline.forward_groups):
            segment = segments.get(node.name)
            if segment is None:
                calls: list[Line] = [
                    *FORWARD[node.op.kind](self.v, node, keeping),
                    *neurons.forward(self.v, node, keeping),
                ]
            else:
                calls = list(forward_segment(self.v, segment, keeping))
            if calls:
                yield Comment(_title(node))
                yield from calls
                if keeping:
                    yield Probe("VALUE", self.v.number[node.name], self.v.value(node.name), self.v.elements(node.name))

    def _backward(self) -> Iterator[Line]:
        segments = {segment.output.name: segment for segment in self.timeline.backward}
        for group in self.timeline.backward_groups:
            yield Comment(_title(group[0].node))
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
            yield from weight_gradient(self.v, step.node, Name(f"&kt_slices[{number}]"), dy)

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
            calls: list[Call] = [Call("kt_slice_clear", (one, Name(f"&kt_layers[{number}]")))]
            calls += [*weight_gradient(self.v, step.node, one, dy), *self._update(step.node, number, one)]
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

    def _apply(self) -> Iterator[Line]:
        if self.region.accumulate:
            for step in self.timeline.step_graph.steps:
                yield from self._weight_update(step.node)
                yield from self._bias_update(step.node)

    @property
    def _observes(self) -> bool:
        return self.v.drawing is not None and self.v.drawing.function == "medyate"

    def _start(self) -> Iterator[Line]:
        """Everything that is trained starts as nothing but the biases, which start as they are in flash."""
        lowest = self.region.top if self.v.drawing else self.tables.lowest()
        yield Call("kt_zero", (Place(lowest), (self.region.nbytes - lowest) // 4))
        for name, trained in self.region.trained.items():
            if name.endswith(".bias"):
                node = self.v.graph.node[self.v.graph.layer[trained.layer].node]
                yield Call("kt_copy", (self.v.initial_bias(node), 0, 0, trained.value, 0, 0, 1, 1, trained.elements, 0))


def _title(node: Node) -> str:
    return f"{node.op.kind} {node.layer}" if node.layer and node.layer != node.name else node.name
