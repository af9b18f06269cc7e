"""One training step written out: what runs backwards, and what each layer keeps for it. All bytes start here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from kilotune.errors import PlanError
from kilotune.graph import node as ops
from kilotune.graph.again import makes_again, way_back
from kilotune.graph.keeping import check_keeps, modes_of, ways_of
from kilotune.graph.node import ACTIVATION_KEEPS, Graph, Layer, Node
from kilotune.graph.way import Modes, Way
from kilotune.update_plan import ChannelSet, UpdatePlan

Form = Literal["value", "channels", "compressed", "again", "mask", "argmax"]

_BITS = {"value": 32, "channels": 32, "compressed": 32, "again": 0, "mask": 1, "argmax": 8}


@dataclass(frozen=True)
class Compressed:
    """``channels`` channels of a layer's input, kept in a ``way`` of their own size law."""

    way: Way
    modes: Modes
    channels: int

    def elements(self, batch: int) -> int:
        """Elements at batch ``batch``; the cap, where they depend on the data."""
        return self.way.kept(self.modes, batch, self.channels)


@dataclass(frozen=True)
class Kept:
    """Something handed from the forward to the backward pass.

    node: who needs it; value: what it is made from, in the memory of ``root``; elements: how many at batch 1.
    form "value" is the whole value itself, never a copy; the input image and parameters are not counted.
    form "compressed" grows with the batch as ``compressed`` says. form "again" is nothing: the value is made again, in the
    backward pass, from ``root``, which somebody else keeps whole.
    """

    node: str
    layer: str
    value: str
    root: str
    form: Form
    elements: int
    counted: bool = True
    compressed: Compressed | None = None

    @property
    def name(self) -> str:
        """Whole values are kept once, whoever needs them; everything else belongs to one node."""
        return self.root if self.form == "value" else f"{self.node}.{self.form}"

    def nbytes(self, batch: int = 1) -> int:
        """Bytes at batch ``batch``; masks are packed eight to a byte over the whole batch."""
        elements = self.compressed.elements(batch) if self.compressed else self.elements * batch
        return -(-elements * _BITS[self.form] // 8) if self.counted else 0


@dataclass(frozen=True)
class BackwardStep:
    """The backward pass of one node: which inputs receive a gradient, what of its weights is trained.

    again: the nodes that make the input of a layer again, so that it need not be kept.
    """

    node: Node
    wanted: tuple[bool, ...]
    channels: ChannelSet | None
    bias: bool
    kept: tuple[Kept, ...]
    again: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepGraph:
    """Forward pass (all nodes of ``graph`` in order), loss, backward pass and update of one training step under a plan."""

    graph: Graph
    plan: UpdatePlan
    steps: tuple[BackwardStep, ...]

    @classmethod
    def of(cls, graph: Graph, plan: UpdatePlan, through: tuple[str, ...] = ()) -> "StepGraph":
        """The step that trains ``plan``; gradients also reach the outputs of the layers ``through``.

        Raises PlanError where the plan names layers, channels or biases that the network does not have.
        """
        check_plan(graph, plan)
        return cls(graph, plan, tuple(reversed(list(_Differentiation(graph, plan, through).steps()))))

    @cached_property
    def kept(self) -> tuple[Kept, ...]:
        """Everything kept, in forward order, each thing once."""
        kept: dict[str, Kept] = {}
        for step in reversed(self.steps):
            for thing in step.kept:
                kept.setdefault(thing.name, thing)
        return tuple(kept.values())

    def saved_bytes(self, batch: int = 1) -> int:
        """Bytes kept from forward to backward at a batch size, the input image and parameters excluded."""
        return sum(kept.nbytes(batch) for kept in self.kept) + self.loss_bytes(batch)

    def loss_bytes(self, batch: int = 1) -> int:
        """What softmax cross-entropy keeps: log-probabilities, one 8-byte label per example, one scale."""
        if not self.steps:
            return 0
        return batch * self.graph.node[self.graph.output].output.elements * 4 + batch * 8 + 4


def check_plan(graph: Graph, plan: UpdatePlan) -> None:
    """Raise PlanError unless every layer, channel and bias of the plan exists in the network and can be kept as it says.

    A plan that knows which network it was drawn for is refused by every other one.
    """
    for name, axis, indices in plan.channels:
        layer = graph.find_layer(name)
        channels = layer.in_channels if axis == "in" else layer.out_channels
        if indices[-1] >= channels:
            raise PlanError(f"{name} has {channels} channels on axis {axis!r}, the plan asks for channel {indices[-1]}")
    for name in plan.biases:
        if not graph.find_layer(name).has_bias:
            raise PlanError(f"{name} has neither a bias nor a folded batch norm, so its bias cannot be trained")
    named = {chosen.layer for chosen in plan.channels} | set(plan.biases)
    if plan.classifier and graph.classifier in named:
        raise PlanError(
            f"{graph.classifier} is the classifier; it is trained whole by classifier=True, leave it out of the rest"
        )
    for name in plan.pool:
        graph.find_layer(name)
    strangers = [chosen.layer for chosen in plan.channels if plan.pool and chosen.layer not in plan.pool]
    if strangers:
        raise PlanError(f"the plan trains {', '.join(strangers)}, which is not in its pool; add it to the pool")
    if plan.network not in ("", graph.fingerprint):
        raise PlanError(
            f"the plan was drawn for a network with other layers (fingerprint {plan.network}) than {graph.model} has "
            f"({graph.fingerprint}); draw one for this network"
        )
    check_keeps(graph, plan)


def whole_classifier(graph: Graph, plan: UpdatePlan) -> ChannelSet | None:
    """The classifier as a channel set, if the plan trains it."""
    if not plan.classifier or graph.classifier is None:
        return None
    return graph.layer[graph.classifier].whole()


class _Differentiation:
    """Decides, node by node, what runs backwards and what is kept for it."""

    def __init__(self, graph: Graph, plan: UpdatePlan, through: tuple[str, ...]):
        self.graph = graph
        self.root = graph.root
        self.by_node = {layer.node: layer for layer in graph.layers}
        self.channels = {chosen.layer: chosen for chosen in plan.channels}
        self.biases = set(plan.biases)
        self.ways = ways_of(plan.keeps)
        self.through = set(through)
        self.makers: set[str] = set()
        classifier = whole_classifier(graph, plan)
        if classifier is not None:
            self.channels[classifier.layer] = classifier
            if graph.layer[classifier.layer].has_bias:
                self.biases.add(classifier.layer)

    def steps(self) -> Iterator[BackwardStep]:
        """Steps in forward order; a node takes part if a trained layer stands at or before it."""
        active: set[str] = set()
        for node in self.graph.nodes:
            layer = self.by_node.get(node.name)
            channels = self.channels.get(layer.name) if layer else None
            bias = layer is not None and layer.name in self.biases
            wanted = tuple(name in active for name in node.inputs)
            if channels or bias or any(wanted) or (layer and layer.name in self.through):
                active.add(node.name)
                if any(wanted) and makes_again(node):
                    self.makers.add(node.name)
                again = self._again(node, layer)
                kept = tuple(self._kept(node, wanted, layer, channels, again))
                yield BackwardStep(node, wanted, channels, bias, kept, again)

    def _again(self, node: Node, layer: Layer | None) -> tuple[str, ...]:
        return () if layer is None or layer.name in self.ways else way_back(self.graph, node, self.makers)

    def _kept(
        self,
        node: Node,
        wanted: tuple[bool, ...],
        layer: Layer | None,
        channels: ChannelSet | None,
        again: tuple[str, ...],
    ) -> Iterator[Kept]:
        if layer is not None and channels is not None and again:
            root = self.root[self.graph.node[again[0]].inputs[0]]
            yield Kept(node.name, node.layer, node.inputs[0], root, "again", 0, counted=False)
        elif layer is not None and channels is not None:
            yield self._kept_input(node, layer, channels)
        elif any(wanted):
            yield from _KEEPS.get(node.op.kind, _keep_nothing)(self, node, wanted)

    def _kept_input(self, node: Node, layer: Layer, chosen: ChannelSet) -> Kept:
        source = node.inputs[0]
        if layer.name in self.ways:
            return self._compressed(node, layer, chosen, self.ways[layer.name])
        everything = len(chosen.indices) == layer.in_channels or not layer.keeps_channels(chosen.axis)
        if everything or self._is_input(source):
            return self.value(node, source)
        elements = len(chosen.indices) * layer.channel_input_elements
        return Kept(node.name, node.layer, source, self.root[source], "channels", elements)

    def _compressed(self, node: Node, layer: Layer, chosen: ChannelSet, way: Way) -> Kept:
        channels = len(chosen.indices) if layer.keeps_channels(chosen.axis) else layer.in_channels
        compressed = Compressed(way, modes_of(self.graph, layer), channels)
        source, elements = node.inputs[0], compressed.elements(1)
        return Kept(node.name, node.layer, source, self.root[source], "compressed", elements, compressed=compressed)

    def _is_input(self, name: str) -> bool:
        return isinstance(self.graph.node[self.root[name]].op, ops.Input)

    def value(self, node: Node, name: str) -> Kept:
        """The whole value ``name``; the image and parameters are there anyway and not counted."""
        root = self.graph.node[self.root[name]]
        counted = not isinstance(root.op, ops.Input) and root.name not in self.graph.constants
        return Kept(node.name, node.layer, name, root.name, "value", root.output.elements, counted)

    def own(self, node: Node, form: Form, elements: int) -> Kept:
        """Something computed for this node alone."""
        return Kept(node.name, node.layer, node.name, node.name, form, elements)


def _keep_nothing(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    yield from ()


def _keep_activation(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    assert isinstance(node.op, ops.Activation)
    keeps = ACTIVATION_KEEPS[node.op.function]
    if keeps == "mask":
        yield d.own(node, "mask", node.output.elements)
    else:
        yield d.value(node, node.inputs[0] if keeps == "input" else node.name)


def _keep_other_operand(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    for other, needed in zip(reversed(node.inputs), wanted, strict=True):
        if needed:
            yield d.value(node, other)


def _keep_mask(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    if node.inputs[1] in d.graph.constants:
        yield d.value(node, node.inputs[1])


def _keep_argmax(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    yield d.own(node, "argmax", node.output.elements)


def _keep_dropped(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    yield d.own(node, "mask", node.output.elements)


def _keep_input(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    yield d.value(node, node.inputs[0])


def _keep_output(d: _Differentiation, node: Node, wanted: tuple[bool, ...]) -> Iterator[Kept]:
    yield d.value(node, node.name)


# What a node keeps so that gradients can pass through it. Kinds that are not here keep nothing.
_KEEPS: dict[str, Callable[[_Differentiation, Node, tuple[bool, ...]], Iterator[Kept]]] = {
    "activation": _keep_activation,
    "mul": _keep_other_operand,
    "matmul": _keep_other_operand,
    "masked": _keep_mask,
    "max_pool": _keep_argmax,
    "dropout": _keep_dropped,
    "layer_norm": _keep_input,
    "softmax": _keep_output,
}
