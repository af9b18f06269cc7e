"""From a network, a plan and the layout of its memory to a ``Program``: every decision that the printed text rests on."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kilotune.codegen.forward import FORWARD, problem
from kilotune.codegen.numbers import SUFFIX
from kilotune.codegen.program import (
    Argument,
    Below,
    Call,
    Checked,
    Comment,
    Draws,
    Line,
    Name,
    Place,
    Probe,
    Program,
    Struct,
)
from kilotune.codegen.region import SlicePlace, place
from kilotune.codegen.streamed import forward_segment
from kilotune.codegen.training import Training, title
from kilotune.codegen.values import NOTHING, Values
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.graph.node import Graph, Layer
from kilotune.update_plan import UpdatePlan


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
    _check(values, plan)
    return _Decision(values, plan).program(momentum)


def _check(values: Values, plan: UpdatePlan) -> None:
    graph = values.graph
    found = [(node, problem(values, node)) for node in graph.nodes]
    problems = [
        f"  {node.op.kind} -> {'x'.join(map(str, values.shape(node.name)))} in {node.layer or node.name}: {text}"
        for node, text in found
        if text is not None
    ]
    if problems:
        listing = "\n".join(problems)
        raise ExportError(f"{graph.model} has {len(problems)} operations that cannot become C:\n{listing}")
    if plan.keeps:
        raise ExportError(
            f"{', '.join(keep.layer for keep in plan.keeps)}: inputs cannot be kept compressed on a device"
        )
    positions = [
        node.layer for node in graph.nodes if isinstance(node.op, ops.Linear) and len(values.shape(node.name)) > 1
    ]
    if values.region.layout.accounting.streamed and positions:
        raise ExportError(
            f"{', '.join(positions)}: linear layers over several positions cannot be trained channel by channel; "
            "export with --plain"
        )
    patterned = [layer.name for layer in graph.layers if layer.taps is not None]
    if patterned:
        raise ExportError(f"{', '.join(patterned)}: kernels with patterns cannot become C; fine-tune them on the host")
    neurons = [chosen.layer for chosen in plan.channels if chosen.axis == "out"]
    if neurons:
        raise ExportError(f"{', '.join(neurons)}: output neurons cannot be trained on a device; plan input channels")


class _Decision:
    def __init__(self, values: Values, plan: UpdatePlan):
        self.v, self.plan, self.region = values, plan, values.region
        self.timeline = values.region.layout.timeline

    def program(self, momentum: float) -> Program:
        v, graph = self.v, self.v.graph
        infer = tuple(self._forward(keeping=False))
        forward, start, training = tuple(self._forward(keeping=True)), tuple(self._start()), Training(v)
        backward, apply = tuple(training.backward()), tuple(training.apply())
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
        counts, drawing = self._counts(), self.v.drawing
        weights = sum(n * layer.channel_weight_elements for n, layer in zip(counts, self.region.pool, strict=True))
        if drawing is not None:
            weights = drawing.max_weights
        return self.region.top - 4 * weights * self.region.copies

    def _counts(self) -> list[int]:
        """Channels of each layer of the plan; none yet where the device draws."""
        chosen = {} if self.v.drawing else {one.layer: len(one.indices) for one in self.plan.channels}
        return [chosen.get(layer.name, 0) for layer in self.region.pool]

    def _loss_gradient(self) -> Place:
        if not self.timeline.step_graph.steps:
            raise ExportError("the plan trains nothing; train at least the classifier")
        return self.region.buffer(self.timeline.routes[self.timeline.step_graph.steps[0].node.name].arriving)

    def _forward(self, keeping: bool) -> Iterator[Line]:
        segments = {segment.output.name: segment for segment in self.timeline.forward}
        for node in (group[-1] for group in self.timeline.forward_groups):
            segment = segments.get(node.name)
            if segment is None:
                calls: list[Line] = list(FORWARD[node.op.kind](self.v, node, keeping))
            else:
                calls = list(forward_segment(self.v, segment, keeping))
            if calls:
                yield Comment(title(node))
                yield from calls
                if keeping:
                    yield Probe("VALUE", self.v.number[node.name], self.v.value(node.name), self.v.elements(node.name))

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
            outputs, kernel = layer.out_channels // layer.groups, int(np.prod(layer.kernel))
            rows.append((at, layer.channel_input_elements, layer.in_channels, outputs, kernel, layer.groups))
            at += layer.weight_elements
        return Struct("kt_layer", "kt_layers", tuple(rows)), Struct("kt_slice", "kt_slices", tuple(self._slices()))

    def _slices(self) -> Iterator[tuple[Argument | str, ...]]:
        chosen = {} if self.v.drawing else {one.layer: one.indices for one in self.plan.channels}
        counts, region = self._counts(), self.region
        places = place(counts, region.pool, region.top, region.copies, region.accumulate)
        for number, (layer, at) in enumerate(zip(region.pool, places, strict=True)):
            velocity = NOTHING if at.velocity is None else Place(at.velocity)
            index = self._index(number, chosen.get(layer.name, ()))
            yield index, Place(at.delta), Place(at.gradient), velocity, Place(at.kept), counts[number]
        for layer in self._sliced[len(places) :]:
            whole, node = region.trained[f"{layer.name}.weight"], self.v.graph.node[layer.node]
            at_once = region.layout.accounting.layer_gradients
            passing = whole.gradient or (self._classifier_gradient(layer, places) if at_once else NOTHING)
            kept = self.v.value(node.inputs[0])
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
