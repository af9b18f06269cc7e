"""A StepGraph turned into calls on tensors: a forward pass that keeps what the plan needs, and a backward pass that stops
at the deepest trained layer."""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from kilotune.graph import node as ops
from kilotune.graph.backward import Kept, StepGraph
from kilotune.graph.node import Node
from kilotune.ops.again import make_again
from kilotune.ops.backward import BACKWARD
from kilotune.ops.forward import FORWARD, FORWARD_KEEPING, Weights
from kilotune.ops.instructions import (
    BackwardCall,
    Instruction,
    compile_backward,
    compile_forward,
    compressed_places,
    n_parts,
    root_node,
)
from kilotune.ops.keep import cut_channels
from kilotune.ops.linear import bias_grad
from kilotune.ops.live import live_grad
from kilotune.ops.place import Memory
from kilotune.ops.slices import LiveBias, LiveWeight
from kilotune.ops.ways import WAYS

Parts = dict[str, list[Tensor]]


class Program:
    """Executes one plan. ``forward`` gives logits, ``forward_keeping`` also what backward needs, ``backward`` live gradients."""

    def __init__(
        self,
        graph: StepGraph,
        weights: dict[str, Weights],
        live_weights: dict[str, LiveWeight],
        live_biases: dict[str, LiveBias],
        places: dict[str, int],
        memories: dict[str, Memory],
        convert: Callable[[Tensor], Tensor],
    ):
        self.step_graph = graph
        self._convert = convert
        self._source = graph.graph.nodes[0].name
        self._weights = weights
        self.live: list[LiveWeight | LiveBias] = [*live_weights.values(), *live_biases.values()]
        # What the tensors kept belong to, in their order; a compressed input is several tensors.
        self.kept = [
            kept
            for kept in graph.kept
            if kept.counted or isinstance(root_node(graph, kept).op, ops.Input)
            for _ in range(n_parts(kept))
        ]
        self._constants = {
            name: weight for name in graph.graph.constants if (weight := weights[name].weight) is not None
        }
        inputs = compressed_places(graph, live_weights, memories)
        self._instructions = compile_forward(graph, weights, live_weights, inputs)
        self._calls = [
            compile_backward(graph, step, weights, live_weights, live_biases, places, inputs) for step in graph.steps
        ]
        self._n_gradients = len(places)
        self._infos = {node.name: node.output for node in graph.graph.nodes}

    @property
    def training(self) -> bool:
        """Whether dropout is on."""
        return any(weights.training for weights in self._weights.values())

    def refresh(self) -> None:
        """Take over the live parameters as they are now."""
        for live in self.live:
            live.refresh()

    def forward(self, x: Tensor, look: Callable[[Node, Tensor], None] | None = None) -> Tensor:
        """Logits, keeping nothing. look: sees every node and its first input."""
        values, n = self._start(x)
        for call in self._instructions:
            if look is not None:
                look(call.node, values[call.node.inputs[0]])
            self._run(call, values, n)
        return values[self.step_graph.graph.output]

    def watch(self, x: Tensor, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """The values of the nodes ``names`` as a forward pass makes them, each valid until the next one is asked for."""
        values, n = self._start(x)
        for name in (name for name in names if name in values):
            yield name, values[name]
        for call in self._instructions:
            self._run(call, values, n)
            if call.node.name in names:
                yield call.node.name, values[call.node.name]

    def _run(self, call: Instruction, values: dict[str, Tensor], n: int) -> None:
        node = call.node
        values[node.name] = FORWARD[node.op.kind](node, call.weights, [values[i] for i in node.inputs], n)
        for name in call.dead:
            del values[name]

    def forward_keeping(self, x: Tensor) -> tuple[Tensor, list[Tensor], Parts]:
        """Logits, what backward needs in the order of ``kept``, and what it needs that stays from step to step."""
        values, n = self._start(x)
        kept: dict[str, list[Tensor]] = {self._source: [x]}  # The image is kept as it came: no bytes beside it.
        resident: Parts = {}
        for call in self._instructions:
            node, inputs = call.node, [values[i] for i in call.node.inputs]
            for name, value, axis, index in call.slices:
                kept[name] = [cut_channels(values[value], axis, index)]
            for name, value, place in call.compressed:
                kept[name], resident[name] = WAYS[place.way.name].keep(values[value], place)
            if call.own is None:
                values[node.name] = FORWARD[node.op.kind](node, call.weights, inputs, n)
            else:
                values[node.name], own = FORWARD_KEEPING[node.op.kind](node, call.weights, inputs, n)
                kept[call.own] = [own]
            for name, value in call.whole:
                kept.setdefault(name, [values[value]])
            for name in call.dead:
                del values[name]
        names = dict.fromkeys(thing.name for thing in self.kept)
        return values[self.step_graph.graph.output], [part for name in names for part in kept[name]], resident

    def _start(self, x: Tensor) -> tuple[dict[str, Tensor], int]:
        start = self._convert(x) if self._infos[self._source].is_float else x
        return {self._source: start, **self._constants}, x.shape[0]

    def backward(self, saved: tuple[Tensor, ...], resident: Parts, dy: Tensor, n: int) -> list[Tensor | None]:
        """Gradients of the live parameters, from dL/dlogits."""
        kept = {name: [weight] for name, weight in self._constants.items()}
        for thing, part in zip(self.kept, saved, strict=True):
            kept.setdefault(thing.name, []).append(part)
        for name, parts in resident.items():
            kept[name].extend(parts)
        if self._source in kept:
            kept[self._source] = [self._convert(kept[self._source][0])]
        grads: list[Tensor | None] = [None] * self._n_gradients
        flowing = {self.step_graph.graph.output: dy}
        for call in self._calls:
            node = call.step.node
            gradient = flowing.pop(node.name)
            self._live_grads(call, kept, gradient, grads, n)
            if any(call.step.wanted):
                shapes = [self._infos[name].at(n) for name in node.inputs]
                results = self._input_grads(call, kept, gradient, shapes, n)
                for name, result in zip(node.inputs, results, strict=True):
                    if result is not None:
                        flowing[name] = flowing[name] + result if name in flowing else result
        return grads

    def _input(self, call: BackwardCall, kept: Parts, n: int) -> Tensor:
        """What a trained layer read: kept, or made again."""
        thing = call.step.kept[0]
        if not call.again:
            return self._fetch(thing, kept, n)
        source = call.again[0][0].inputs[0]
        x = kept[thing.root][0].reshape(self._infos[source].at(n))
        assert call.live is not None
        return make_again(call.again, x, call.live.slice.index if call.sliced else None, n)

    def _fetch(self, thing: Kept, kept: Parts, n: int) -> Tensor:
        part = kept[thing.name][0]
        # A value kept in the memory layout channels_last has no view in another shape.
        return part.reshape(self._infos[thing.value].at(n)) if thing.form == "value" else part

    def _input_grads(
        self, call: BackwardCall, kept: Parts, dy: Tensor, shapes: list[tuple[int, ...]], n: int
    ) -> list[Tensor | None]:
        node = call.step.node
        if call.place is not None and (input_grad := WAYS[call.place.way.name].input_grad):
            return [input_grad(call.place, call.weights.weight, dy, shapes[0])]
        things = [self._fetch(thing, kept, n) for thing in call.step.kept if thing.form != "again"]
        return BACKWARD[node.op.kind](node, call.weights, dy, things, call.step.wanted, shapes)

    def _live_grads(self, call: BackwardCall, kept: Parts, dy: Tensor, grads: list[Tensor | None], n: int) -> None:
        op = call.step.node.op
        if call.live is not None:
            thing = call.step.kept[0]
            if call.place is not None:
                grad = WAYS[call.place.way.name].weight_grad(call.place, kept[thing.name], dy)
            else:
                assert isinstance(op, ops.Conv2d | ops.Linear)
                grad = live_grad(op, call.live.slice, self._input(call, kept, n), dy, call.sliced)
            grads[call.live_place] = grad if call.live.scale is None else grad * call.live.scale
        if call.bias is not None:
            grad = bias_grad(op.kind, dy)
            grads[call.bias_place] = grad if call.bias.scale is None else grad * call.bias.scale


class StepFunction(torch.autograd.Function):
    """The whole step as one autograd function; saves exactly ``Program.kept``."""

    @staticmethod
    def forward(ctx, program: Program, x: Tensor, *live: Tensor) -> Tensor:
        logits, saved, ctx.resident = program.forward_keeping(x)
        ctx.save_for_backward(*saved)
        ctx.program, ctx.n = program, x.shape[0]
        ctx.versions = [tensor._version for tensor in live]
        ctx.parameters = live
        ctx.training = program.training
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        if ctx.versions != [tensor._version for tensor in ctx.parameters]:
            raise RuntimeError(
                "trained weights were changed between forward and backward; call backward() before the optimizer"
            )
        if ctx.training != ctx.program.training:
            raise RuntimeError(
                "train() or eval() was called between forward and backward; call it before or after both"
            )
        grads = ctx.program.backward(ctx.saved_tensors, ctx.resident, dy, ctx.n)
        return None, None, *grads
