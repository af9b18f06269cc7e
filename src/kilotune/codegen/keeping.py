"""Inputs of trained layers on their way from forward to backward, as calls: kept as they are, or in a way of a table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kilotune.codegen.program import Argument, Call, Line, Name, Place, Restored
from kilotune.codegen.values import Values
from kilotune.errors import ExportError
from kilotune.graph.node import Linear, Node
from kilotune.graph.tiles import tile
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
    ways = v.region.layout.ways
    strange = [f"{layer} ({way})" for layer, way in ways.items() if way.name not in WAYS]
    if strange:
        raise ExportError(
            f"a device keeps inputs as {', '.join(WAYS)}, not as {', '.join(strange)}; keep these layers another way, or exactly"
        )
    neurons = [layer for layer in ways if layer in v.region.neurons]
    if neurons:
        raise ExportError(
            f"{', '.join(neurons)}: a device trains output neurons on inputs that are kept exactly; plan them without --keep"
        )


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


def _name(v: Values, node: Node) -> str:
    way = v.way(node)
    assert way is not None
    return way.name


SEEN = Name("present.n_seen")
"""Samples trained on so far."""

WAYS: dict[str, Row] = {
    "int8": Row(_quantise, _dequantise),
    "int4": Row(_quantise, _dequantise),
}
