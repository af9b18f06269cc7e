"""Inputs of trained layers on their way from forward to backward, as calls: kept as they are, or in a way of a table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kilotune.codegen.program import Argument, Call, Line, Name, Place, Restored
from kilotune.codegen.values import Values
from kilotune.errors import ExportError
from kilotune.graph.node import Linear, Node
from kilotune.graph.tiles import tile
from kilotune.graph.ways import Patterned, Pruned
from kilotune.rng import Pcg32

SOME = Name("&some")
"""The few channels of a slice whose input has been made again."""


@dataclass(frozen=True)
class Row:
    """The calls of a way of ``graph.ways``.

    keep: (values, node, slice) -> what compresses a layer's input. restore: (values, node, slice) -> what makes the channels
    ``SOME`` of it again, from place ``j`` of the slice on.
    """

    keep: Callable[[Values, Node, Argument], Call]
    restore: Callable[[Values, Node, Argument], Call]


def keep_input(v: Values, node: Node, piece: Argument) -> Call:
    """What hands the chosen channels of a layer's input to the backward pass."""
    way = v.way(node)
    if way is not None:
        return WAYS[way.name].keep(v, node, piece)
    x = v.value(node.inputs[0])
    if isinstance(node.op, Linear):
        return Call("kt_keep_features", (x, piece, positions(v, node), node.op.weight_shape[1]))
    return Call("kt_keep_channels", (x, piece, positions(v, node)))


def read_input(v: Values, node: Node, piece: Name, calls: Callable[[Argument], Iterator[Call]]) -> Iterator[Line]:
    """``calls`` on the slice ``piece``; where its input is compressed, on a few channels after another, made again in scratch."""
    way, number = v.way(node), v.slice_number(node)
    if way is None or number is None:
        yield from calls(piece)
        return
    restore = WAYS[way.name].restore(v, node, piece)
    lines = (restore, *calls(SOME))
    yield Restored(piece, number, tile(v.layer_of[node.name]), _top(v, node, number), positions(v, node), lines)


def _top(v: Values, node: Node, number: int) -> Argument:
    """What the scratch lies below: the stack of kept channels and passing gradients; of the classifier, its buffer ends there."""
    region, layer = v.region, v.layer_of[node.name]
    if number == len(region.pool):
        at = region.buffer(f"{node.name}.compressed.reading")
        return Place(at.offset + 4 * tile(layer) * positions(v, node))
    if region.accumulate or region.gradient_is_whole(node.name):
        return Name(f"kt_slices[{number}].{'kept' if region.accumulate else 'gradient'}")
    return region.passing(node.name, layer.channel_weight_elements)


def check_ways(v: Values) -> None:
    """Raise ExportError for layers that keep their inputs in ways that a device cannot carry out."""
    region, ways = v.region, v.region.layout.ways
    strange = [f"{layer} ({way})" for layer, way in ways.items() if way.name not in WAYS]
    if strange:
        raise ExportError(
            f"a device keeps inputs as {', '.join(WAYS)}, not as {', '.join(strange)}; keep these layers another way, or exactly"
        )
    neurons = [layer for layer in ways if layer in region.neurons]
    if neurons:
        raise ExportError(
            f"{', '.join(neurons)}: a device trains output neurons on inputs that are kept exactly; plan them without --keep"
        )
    shared = [] if region.accumulate or region.layout.accounting.layer_gradients else _pruned(v)
    if shared:
        raise ExportError(
            f"{', '.join(shared)}: with --streamed and --no-accumulate a layer is trained channel by channel, but the largest "
            "elements are those of all channels together; sum gradients, or keep these layers in another way than prune"
        )


def _pruned(v: Values) -> list[str]:
    """Layers of which one channel after the other is trained, and that keep the largest elements of all of them."""
    region, graph = v.region, v.graph
    ways = [layer for layer, way in region.layout.ways.items() if isinstance(way, Pruned)]
    return [layer for layer in ways if not region.gradient_is_whole(graph.layer[layer].node)]


def positions(v: Values, node: Node) -> int:
    """Elements of one channel of a layer's input."""
    return v.elements(node.inputs[0]) // v.layer_of[node.name].in_channels


def noise_seed(seed: int, number: int) -> int:
    """Where the rounding of a layer's input starts; the samples trained on so far are added to it. number: row of the layer."""
    rng = Pcg32(seed, number)
    return rng.next_u32() << 32 | rng.next_u32()


def _steps(v: Values, node: Node) -> tuple[int, int, int]:
    """Elements of a channel; how far apart channels are, and elements of one."""
    n = positions(v, node)
    return (n, 1, node.op.weight_shape[1]) if isinstance(node.op, Linear) else (n, n, 1)


def _quantise(v: Values, node: Node, piece: Argument) -> Call:
    number = v.slice_number(node)
    assert number is not None
    seed = Name(f"{noise_seed(v.seed, number):#x}ull + {SEEN.name}")
    return Call(f"kt_keep_{_name(v, node)}", (v.value(node.inputs[0]), piece, *_steps(v, node), seed))


def _dequantise(v: Values, node: Node, piece: Argument) -> Call:
    return Call(f"kt_restore_{_name(v, node)}", (piece, Name("j"), SOME, positions(v, node)))


def _prune(v: Values, node: Node, piece: Argument) -> Call:
    way = v.way(node)
    assert isinstance(way, Pruned)
    return Call("kt_keep_prune", (v.value(node.inputs[0]), piece, *_steps(v, node), way.values(positions(v, node))))


def _unprune(v: Values, node: Node, piece: Argument) -> Call:
    return Call("kt_restore_prune", (piece, Name("j"), SOME, positions(v, node)))


def _keep_pattern(v: Values, node: Node, piece: Argument) -> Call:
    return Call("kt_keep_pattern", (v.value(node.inputs[0]), piece, *_cells(v, node)))


def _restore_pattern(v: Values, node: Node, piece: Argument) -> Call:
    return Call("kt_restore_pattern", (piece, Name("j"), SOME, *_cells(v, node)))


def _cells(v: Values, node: Node) -> tuple[int, int, int]:
    """(h, w) of the input, and taps of a pattern."""
    way = v.way(node)
    assert isinstance(way, Patterned)
    _, height, width = v.shape(node.inputs[0])
    return height, width, way.taps


def _name(v: Values, node: Node) -> str:
    way = v.way(node)
    assert way is not None
    return way.name


SEEN = Name("present.n_seen")
"""Samples trained on so far."""

WAYS: dict[str, Row] = {
    "int8": Row(_quantise, _dequantise),
    "int4": Row(_quantise, _dequantise),
    "prune": Row(_prune, _unprune),
    "pattern": Row(_keep_pattern, _restore_pattern),
}
