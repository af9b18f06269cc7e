"""A StepGraph turned into calls on tensors: a forward pass that keeps what the plan needs, and a backward pass that stops
at the deepest trained layer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep, Kept, StepGraph, root_of
from kilotune.graph.node import Graph, Node
from kilotune.ops.backward import BACKWARD
from kilotune.ops.forward import FORWARD, FORWARD_KEEPING, Weights
from kilotune.ops.keep import cut_channels
from kilotune.ops.linear import bias_grad, conv2d_live_grad, linear_live_grad
from kilotune.ops.slices import LiveBias, LiveWeight

_LIVE_GRAD: dict[str, Callable[..., Tensor]] = {"conv2d": conv2d_live_grad, "linear": linear_live_grad}

# Operations that write fresh memory, so that the next one may work in place.
_FRESH = {"conv2d", "linear", "batch_norm", "add", "mul"}


@dataclass(frozen=True)
class Instruction:
    """One node of the forward pass, what to keep after it, and the values nobody reads any more.

    own: name of what the node's forward pass itself makes (mask, window positions, statistics).
    whole: (name, value) of values kept as they are. slices: (name, value, axis, index) of channels kept.
    """

    node: Node
    weights: Weights
    own: str | None
    whole: tuple[tuple[str, str], ...]
    slices: tuple[tuple[str, str, int, Tensor], ...]
    dead: tuple[str, ...]


@dataclass(frozen=True)
class BackwardCall:
    """One node of the backward pass with its trained slice and bias, as places in the list of live gradients."""

    step: BackwardStep
    weights: Weights
    live: LiveWeight | None
    bias: LiveBias | None
    sliced: bool
    live_place: int
    bias_place: int


class Program:
    """Executes one plan. ``forward`` gives logits, ``forward_keeping`` also what backward needs, ``backward`` live gradients."""

    def __init__(
        self,
        graph: StepGraph,
        weights: dict[str, Weights],
        live_weights: dict[str, LiveWeight],
        live_biases: dict[str, LiveBias],
        places: dict[str, int],
        convert: Callable[[Tensor], Tensor],
    ):
        self.step_graph = graph
        self._convert = convert
        self._source = graph.graph.nodes[0].name
        self._weights = weights
        self.live: list[LiveWeight | LiveBias] = [*live_weights.values(), *live_biases.values()]
        self.kept_names = [
            kept.name for kept in graph.kept if kept.counted or isinstance(_root(graph, kept).op, ops.Input)
        ]
        self._constants = {
            name: weight for name in graph.graph.constants if (weight := weights[name].weight) is not None
        }
        self._instructions = _compile_forward(graph, weights, live_weights)
        self._calls = [_compile_backward(step, weights, live_weights, live_biases, places) for step in graph.steps]
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

    def forward(self, x: Tensor) -> Tensor:
        """Logits, keeping nothing."""
        values, n = self._start(x)
        for call in self._instructions:
            node = call.node
            values[node.name] = FORWARD[node.op.kind](node, call.weights, [values[i] for i in node.inputs], n)
            for name in call.dead:
                del values[name]
        return values[self.step_graph.graph.output]

    def forward_keeping(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and what backward needs in the order of ``kept_names``."""
        values, n = self._start(x)
        kept: dict[str, Tensor] = {self._source: x}  # The image is kept as it came: no bytes beside it.
        for call in self._instructions:
            node, inputs = call.node, [values[i] for i in call.node.inputs]
            for name, value, axis, index in call.slices:
                kept[name] = cut_channels(values[value], axis, index)
            if call.own is None:
                values[node.name] = FORWARD[node.op.kind](node, call.weights, inputs, n)
            else:
                values[node.name], kept[call.own] = FORWARD_KEEPING[node.op.kind](node, call.weights, inputs, n)
            for name, value in call.whole:
                kept.setdefault(name, values[value])
            for name in call.dead:
                del values[name]
        return values[self.step_graph.graph.output], [kept[name] for name in self.kept_names]

    def _start(self, x: Tensor) -> tuple[dict[str, Tensor], int]:
        start = self._convert(x) if self._infos[self._source].is_float else x
        return {self._source: start, **self._constants}, x.shape[0]

    def backward(self, saved: tuple[Tensor, ...], dy: Tensor, n: int) -> list[Tensor | None]:
        """Gradients of the live parameters, from dL/dlogits."""
        kept = dict(zip(self.kept_names, saved, strict=True)) | self._constants
        if self._source in kept:
            kept[self._source] = self._convert(kept[self._source])
        grads: list[Tensor | None] = [None] * self._n_gradients
        flowing = {self.step_graph.graph.output: dy}
        for call in self._calls:
            node = call.step.node
            gradient = flowing.pop(node.name)
            self._live_grads(call, kept, gradient, grads, n)
            if any(call.step.wanted):
                things = [self._fetch(thing, kept, n) for thing in call.step.kept]
                shapes = [self._infos[name].at(n) for name in node.inputs]
                results = BACKWARD[node.op.kind](node, call.weights, gradient, things, call.step.wanted, shapes)
                for name, result in zip(node.inputs, results, strict=True):
                    if result is not None:
                        flowing[name] = flowing[name] + result if name in flowing else result
        return grads

    def _fetch(self, thing: Kept, kept: dict[str, Tensor], n: int) -> Tensor:
        # A value kept in the memory layout channels_last has no view in another shape.
        return kept[thing.name].reshape(self._infos[thing.value].at(n)) if thing.form == "value" else kept[thing.name]

    def _live_grads(self, call: BackwardCall, kept: dict, dy: Tensor, grads: list[Tensor | None], n: int) -> None:
        op = call.step.node.op
        if call.live is not None:
            x = self._fetch(call.step.kept[0], kept, n)
            grad = _LIVE_GRAD[op.kind](op, call.live.slice.chosen, call.live.slice.index, x, dy, call.sliced)
            grads[call.live_place] = grad if call.live.scale is None else grad * call.live.scale
        if call.bias is not None:
            grad = bias_grad(op.kind, dy)
            grads[call.bias_place] = grad if call.bias.scale is None else grad * call.bias.scale


def _root(graph: StepGraph, kept: Kept) -> Node:
    return graph.graph.node[kept.root]


def _compile_forward(
    step_graph: StepGraph, weights: dict[str, Weights], live_weights: dict[str, LiveWeight]
) -> list[Instruction]:
    graph = step_graph.graph
    keeps: dict[str, list[Kept]] = {}
    for kept in step_graph.kept:
        if kept.root not in graph.constants:
            keeps.setdefault(kept.node, []).append(kept)
    last = {name: node.name for node in graph.nodes for name in node.inputs}
    work_in_place = _in_place(graph, {kept.root for kept in step_graph.kept if kept.form == "value"})
    instructions = []
    for node in graph.nodes:
        if isinstance(node.op, ops.Input) or node.name in graph.constants:
            continue
        own = weights.setdefault(node.name, Weights())
        own.inplace = node.name in work_in_place
        dead = tuple({name for name in node.inputs if last[name] == node.name})
        things = keeps.get(node.name, [])
        made = next((kept.name for kept in things if kept.form not in ("value", "channels")), None)
        whole = tuple((kept.name, kept.value) for kept in things if kept.form == "value")
        slices = tuple(_cut(kept, node, live_weights) for kept in things if kept.form == "channels")
        instructions.append(Instruction(node, own, made, whole, slices, dead))
    return instructions


def _cut(kept: Kept, node: Node, live_weights: dict[str, LiveWeight]) -> tuple[str, str, int, Tensor]:
    axis = len(node.output.shape) - 1 if isinstance(node.op, ops.Linear) else 1
    return kept.name, kept.value, axis, live_weights[kept.layer].slice.index


def _in_place(graph: Graph, kept_whole: set[str]) -> set[str]:
    """Nodes that may overwrite their first input: fresh memory, read by nobody else, not kept."""
    root = root_of(graph)
    readers = Counter(root[name] for node in graph.nodes for name in node.inputs)
    chosen = set()
    for node in graph.nodes:
        if isinstance(node.op, ops.Activation | ops.Add):
            source = root[node.inputs[0]]
            fresh = graph.node[source].op.kind in _FRESH and source == node.inputs[0]
            if fresh and readers[source] == 1 and source not in kept_whole and source != node.name:
                chosen.add(node.name)
    return chosen


def _compile_backward(
    step: BackwardStep,
    weights: dict[str, Weights],
    live_weights: dict[str, LiveWeight],
    live_biases: dict[str, LiveBias],
    places: dict[str, int],
) -> BackwardCall:
    layer = step.node.layer
    live = live_weights.get(layer) if step.channels else None
    bias = live_biases.get(layer) if step.bias else None
    sliced = bool(step.kept) and step.kept[0].form == "channels"
    return BackwardCall(
        step,
        weights.setdefault(step.node.name, Weights()),
        live,
        bias,
        sliced,
        places.get(f"{layer}.weight", -1),
        places.get(f"{layer}.bias", -1),
    )


class StepFunction(torch.autograd.Function):
    """The whole step as one autograd function; saves exactly ``Program.kept_names``."""

    @staticmethod
    def forward(ctx, program: Program, x: Tensor, *live: Tensor) -> Tensor:
        logits, saved = program.forward_keeping(x)
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
        grads = ctx.program.backward(ctx.saved_tensors, dy, ctx.n)
        return None, None, *grads
