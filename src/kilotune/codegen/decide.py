"""From a network, a plan and the layout of its memory to a ``Program``: every decision that the printed text rests on."""

from collections.abc import Iterator
from dataclasses import replace

from kilotune.codegen import neurons
from kilotune.codegen.check import check
from kilotune.codegen.forward import FORWARD
from kilotune.codegen.numbers import SUFFIX
from kilotune.codegen.program import (
    Call,
    Checked,
    Comment,
    Draws,
    Line,
    Name,
    Place,
    Probe,
    Program,
)
from kilotune.codegen.streamed import forward_segment
from kilotune.codegen.tables import Tables
from kilotune.codegen.training import Training, title
from kilotune.codegen.values import Values
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.graph.node import Graph
from kilotune.graph.ways import round_at_random
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
        forward, start, training = tuple(self._forward(keeping=True)), tuple(self._start()), Training(v)
        backward, apply = tuple(training.backward()), tuple(training.apply())
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
            rounds=round_at_random(self.region.layout.ways.values()),
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
        whole = region.whole if at_once else ()
        return Draws(
            drawing,
            Place(region.top),
            region.state,
            region.copies,
            tuple(self._initial_weights()),
            4 * sum(layer.weight_elements for layer in region.pool),
            self.tables.below_its_bias(whole[0]) if whole else None,
            bool(region.whole),
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
                yield Comment(title(node))
                yield from calls
                if keeping:
                    yield Probe("VALUE", self.v.number[node.name], self.v.value(node.name), self.v.elements(node.name))

    def _start(self) -> Iterator[Line]:
        """Everything that is trained starts as nothing but the biases, which start as they are in flash."""
        lowest = self.region.top if self.v.drawing else self.tables.lowest()
        yield Call("kt_zero", (Place(lowest), (self.region.nbytes - lowest) // 4))
        for name, trained in self.region.trained.items():
            if name.endswith(".bias"):
                node = self.v.graph.node[self.v.graph.layer[trained.layer].node]
                yield Call("kt_copy", (self.v.initial_bias(node), 0, 0, trained.value, 0, 0, 1, 1, trained.elements, 0))
