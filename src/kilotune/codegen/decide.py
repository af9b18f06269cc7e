"""From a network, a plan and the layout of its memory to a ``Program``: every decision that the printed text rests on."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kilotune.codegen import neurons
from kilotune.codegen.again import make_again
from kilotune.codegen.backward import bias_gradient, input_gradients, weight_gradient
from kilotune.codegen.check import check
from kilotune.codegen.forward import FORWARD
from kilotune.codegen.numbers import SUFFIX
from kilotune.codegen.program import (
    Argument,
    Below,
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
    Struct,
)
from kilotune.codegen.region import Share, SlicePlace, place
from kilotune.codegen.streamed import backward_segment, forward_segment
from kilotune.codegen.values import NOTHING, Values
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Graph, Layer, Node
from kilotune.memory.cost import ChosenCost, chosen_cost
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

    def program(self, momentum: float) -> Program:
        v, graph = self.v, self.v.graph
        infer = tuple(self._forward(keeping=False))
        forward, backward = tuple(self._forward(keeping=True)), tuple(self._backward())
        start, apply = tuple(self._start()), tuple(self._apply())
        tables, draws = self._tables(), self._draws()
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
            slices=tuple(layer.name for layer in self._sliced),
            resident_bytes=self.region.nbytes - self._lowest(),
            momentum=momentum,
            draws=draws,
        )

    def _draws(self) -> Draws | None:
        drawing, region = self.v.drawing, self.region
        if drawing is None:
            return None
        lowest = self._lowest()
        if drawing.scratch_bytes > lowest:
            raise ExportError(
                f"a draw needs {drawing.scratch_bytes:,} B of scratch, the arena has {lowest:,} B beside what stays"
            )
        at_once = region.layout.accounting.layer_gradients
        whole = [layer for layer in self._sliced[len(region.pool) :] if at_once]
        return Draws(
            drawing,
            Place(region.top),
            region.state,
            region.copies,
            tuple(self._initial_weights()),
            4 * sum(layer.weight_elements for layer in region.pool),
            self._below_its_bias(whole[0]) if whole else None,
            len(self._sliced) > len(region.pool),
        )

    def _initial_weights(self) -> Iterator[Line]:
        for layer in self.region.pool:
            node = self.v.graph.node[layer.node]
            weight, scale = self.v.exported_weight(node)
            suffix, n = SUFFIX[self.v.dtype], layer.weight_elements
            per_scale = n // layer.out_channels
            yield Checked(Call(f"kt_store_append_{suffix}", (Name("&store"), weight, scale, n, per_scale)))

    @property
    def _sliced(self) -> list[Layer]:
        """Layers of the tables: the pool, and the classifier if it is trained."""
        graph = self.v.graph
        whole = [layer for layer in graph.layers if f"{layer.name}.weight" in self.region.trained]
        return [*self.region.pool, *whole]

    def _lowest(self) -> int:
        """First byte of what stays from step to step; of the largest draw, if there are others."""
        drawing = self.v.drawing
        weights = drawing.max_weights if drawing else sum(share.weights for share in self._shares())
        return self.region.top - 4 * weights * self.region.copies

    def _counts(self) -> list[int]:
        """Channels of each layer of the plan; none yet where the device draws."""
        chosen = {} if self.v.drawing else {one.layer: len(one.indices) for one in self.plan.channels}
        return [chosen.get(layer.name, 0) for layer in self.region.pool]

    def _shares(self) -> list[Share]:
        """What each layer of the pool takes under the plan, as the ledger has it; nothing yet where the device draws."""
        chosen, ways = {} if self.v.drawing else {one.layer: one for one in self.plan.channels}, self.region.layout.ways
        costs = {name: chosen_cost(self.v.graph, one, ways) for name, one in chosen.items()}
        none = ChosenCost(0, 0, 0)
        return [
            Share((cost := costs.get(layer.name, none)).weights, cost.kept, layer.node in self.v.made_again)
            for layer in self.region.pool
        ]

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
        lowest = self.region.top if self.v.drawing else self._lowest()
        yield Call("kt_zero", (Place(lowest), (self.region.nbytes - lowest) // 4))
        for name, trained in self.region.trained.items():
            if name.endswith(".bias"):
                node = self.v.graph.node[self.v.graph.layer[trained.layer].node]
                yield Call("kt_copy", (self.v.initial_bias(node), 0, 0, trained.value, 0, 0, 1, 1, trained.elements, 0))

    def _tables(self) -> tuple[Struct, Struct]:
        rows, at = [], 0
        for layer in self._sliced:
            rows.append((at, *self._row(layer)))
            at += layer.weight_elements
        return Struct("kt_layer", "kt_layers", tuple(rows)), Struct("kt_slice", "kt_slices", tuple(self._slices()))

    def _row(self, layer: Layer) -> tuple[int, ...]:
        """What kt_layer says of a layer; of output neurons, that each is a group of its own that nobody else reads."""
        if layer.name in self.region.neurons:
            return 0, layer.out_channels, 1, layer.neuron_weight_elements, layer.out_channels, 0
        outputs, kernel = layer.out_channels // layer.groups, int(np.prod(layer.kernel))
        again = int(layer.node in self.v.made_again)
        return layer.channel_input_elements, layer.in_channels, outputs, kernel, layer.groups, again

    def _slices(self) -> Iterator[tuple[Argument | str, ...]]:
        chosen = {} if self.v.drawing else {one.layer: one.indices for one in self.plan.channels}
        counts, region = self._counts(), self.region
        places = place(self._shares(), region.top, region.copies, region.accumulate)
        for number, (layer, at) in enumerate(zip(region.pool, places, strict=True)):
            velocity = NOTHING if at.velocity is None else Place(at.velocity)
            index = self._index(number, chosen.get(layer.name, ()))
            yield index, Place(at.delta), Place(at.gradient), velocity, Place(at.kept), counts[number]
        for layer in self._sliced[len(places) :]:
            whole, node = region.trained[f"{layer.name}.weight"], self.v.graph.node[layer.node]
            at_once = region.layout.accounting.layer_gradients
            passing = whole.gradient or (self._classifier_gradient(layer, places) if at_once else NOTHING)
            again = f"{node.name}.again"
            kept = region.buffer(again) if region.has(again) else self.v.value(node.inputs[0])
            index = self._index(len(places), tuple(range(layer.in_channels)))
            yield index, whole.value, passing, whole.velocity or NOTHING, kept, layer.in_channels

    def _below_its_bias(self, layer: Layer) -> Place | Below:
        """Where the gradient of a classifier lies that does not stay, below that of its bias."""
        return self.region.passing(layer.node, layer.weight_elements + layer.has_bias * layer.out_channels)

    def _classifier_gradient(self, layer: Layer, places: list[SlicePlace]) -> Place:
        """The same, where draws do not change it."""
        at = self._below_its_bias(layer)
        return at if isinstance(at, Place) else Place(getattr(places[at.slice], at.field) - 4 * at.elements)

    def _index(self, number: int, indices: tuple[int, ...]) -> Argument:
        return self.v.constant(f"index{number}", np.array(indices, np.uint16)) if indices else NOTHING


def _title(node: Node) -> str:
    return f"{node.op.kind} {node.layer}" if node.layer and node.layer != node.name else node.name
