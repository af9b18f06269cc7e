"""A StepGraph as instructions: what each node runs with, what to keep after it, and which values die."""

from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep, Kept, StepGraph
from kilotune.graph.node import Graph, Node
from kilotune.ops.again import Way
from kilotune.ops.forward import Weights
from kilotune.ops.place import Memory, Place
from kilotune.ops.slices import LiveBias, LiveWeight
from kilotune.ops.ways import WAYS

# Operations that write fresh memory, so that the next one may work in place.
_FRESH = {"conv2d", "linear", "batch_norm", "add", "mul"}


@dataclass(frozen=True)
class Instruction:
    """One node of the forward pass, what to keep after it, and the values nobody reads any more.

    own: name of what the node's forward pass itself makes (mask, window positions).
    whole: (name, value) of values kept as they are. slices: (name, value, axis, index) of channels kept.
    compressed: (name, value, place) of channels kept compressed.
    """

    node: Node
    weights: Weights
    own: str | None
    whole: tuple[tuple[str, str], ...]
    slices: tuple[tuple[str, str, int, Tensor], ...]
    compressed: tuple[tuple[str, str, Place], ...]
    dead: tuple[str, ...]


@dataclass(frozen=True)
class BackwardCall:
    """One node of the backward pass with its trained slice and bias, as places in the list of live gradients.

    again: the nodes that make the input again, where it is not kept.
    """

    step: BackwardStep
    weights: Weights
    live: LiveWeight | None
    bias: LiveBias | None
    sliced: bool
    place: Place | None
    again: Way
    live_place: int
    bias_place: int


def root_node(graph: StepGraph, kept: Kept) -> Node:
    """The node whose memory holds what is kept."""
    return graph.graph.node[kept.root]


def n_parts(kept: Kept) -> int:
    """Tensors that make up what is kept."""
    return WAYS[kept.compressed.way.name].n_parts(len(kept.compressed.modes.sizes)) if kept.compressed else 1


def compressed_places(
    step_graph: StepGraph, live_weights: dict[str, LiveWeight], memories: dict[str, Memory]
) -> dict[str, Place]:
    """Where the layers keep their inputs that keep them compressed, by node."""
    places = {}
    for kept in step_graph.kept:
        if kept.compressed:
            op = step_graph.graph.weighted(kept.layer)
            places[kept.node] = Place(op, live_weights[kept.layer].slice, kept.compressed, memories[kept.layer])
    return places


def compile_forward(
    step_graph: StepGraph,
    weights: dict[str, Weights],
    live_weights: dict[str, LiveWeight],
    places: dict[str, Place],
) -> list[Instruction]:
    """The forward pass, node by node."""
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
        made = next((kept.name for kept in things if kept.form in ("mask", "argmax")), None)
        whole = tuple((kept.name, kept.value) for kept in things if kept.form == "value")
        slices = tuple(_cut(kept, node, live_weights) for kept in things if kept.form == "channels")
        compressed = tuple((kept.name, kept.value, places[kept.node]) for kept in things if kept.compressed)
        instructions.append(Instruction(node, own, made, whole, slices, compressed, dead))
    return instructions


def _cut(kept: Kept, node: Node, live_weights: dict[str, LiveWeight]) -> tuple[str, str, int, Tensor]:
    axis = len(node.output.shape) - 1 if isinstance(node.op, ops.Linear) else 1
    return kept.name, kept.value, axis, live_weights[kept.layer].slice.index


def _in_place(graph: Graph, kept_whole: set[str]) -> set[str]:
    """Nodes that may overwrite their first input: fresh memory, read by nobody else, not kept."""
    root = graph.root
    readers = Counter(root[name] for node in graph.nodes for name in node.inputs)
    chosen = set()
    for node in graph.nodes:
        if isinstance(node.op, ops.Activation | ops.Add):
            source = root[node.inputs[0]]
            fresh = graph.node[source].op.kind in _FRESH and source == node.inputs[0]
            if fresh and readers[source] == 1 and source not in kept_whole and source != node.name:
                chosen.add(node.name)
    return chosen


def compile_backward(
    step_graph: StepGraph,
    step: BackwardStep,
    weights: dict[str, Weights],
    live_weights: dict[str, LiveWeight],
    live_biases: dict[str, LiveBias],
    places: dict[str, int],
    inputs: dict[str, Place],
) -> BackwardCall:
    """One node of the backward pass; ``places`` are those of live gradients, ``inputs`` of compressed inputs by node."""
    layer = step.node.layer
    live = live_weights.get(layer) if step.channels else None
    bias = live_biases.get(layer) if step.bias else None
    form = step.kept[0].form if step.kept else "value"
    chosen = step.channels
    sliced = form == "channels" or (form == "again" and chosen is not None and chosen.axis == "in")
    nodes = step_graph.graph.node
    again = tuple((nodes[name], weights.setdefault(name, Weights())) for name in step.again if form == "again")
    return BackwardCall(
        step,
        weights.setdefault(step.node.name, Weights()),
        live,
        bias,
        sliced,
        inputs.get(step.node.name),
        again,
        places.get(f"{layer}.weight", -1),
        places.get(f"{layer}.bias", -1),
    )
