"""Inputs of trained layers on their way from forward to backward, as calls: kept as they are, or in a way of a table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kilotune.codegen import filtering
from kilotune.codegen.program import Argument, Call, Line, Name, Place, Restored
from kilotune.codegen.values import Values
from kilotune.errors import ExportError
from kilotune.graph.node import Linear, Node
from kilotune.graph.tiles import tile
from kilotune.graph.ways import Filtered, Patterned, Pruned
from kilotune.rng import Pcg32

Calls = Callable[[Argument], Iterator[Call]]
SOME = Name("&some")
"""The few channels of a slice whose input has been made again."""


@dataclass(frozen=True)
class Row:
    """The calls of a way of ``graph.ways``, as ``ops.ways`` has its tensors.

    keep: (values, node, slice) -> what compresses a layer's input. weight_grad: (values, node, slice, dL/dy, the calls of the
    layer's own kernel on a slice) -> what adds to the gradient of the slice. input_grad: (values, node, where dL/dx goes, whether
    it is added there, the calls of the layer's own kernel) -> dL/dx, where it is not the layer's own.
    """

    keep: Callable[[Values, Node, Argument], Call]
    weight_grad: Callable[[Values, Node, Name, Argument, Calls], Iterator[Line]]
    input_grad: Callable[[Values, Node, Argument, int, Iterator[Call]], Iterator[Line]] | None = None


def keep_input(v: Values, node: Node, piece: Argument) -> Call:
    """What hands the chosen channels of a layer's input to the backward pass."""
    way = v.way(node)
    if way is not None:
        return WAYS[way.name].keep(v, node, piece)
    x = v.value(node.inputs[0])
    if isinstance(node.op, Linear):
        return Call("kt_keep_features", (x, piece, positions(v, node), node.op.weight_shape[1]))
    return Call("kt_keep_channels", (x, piece, positions(v, node)))


def read_input(v: Values, node: Node, piece: Name, dy: Argument, calls: Calls) -> Iterator[Line]:
    """The weight gradient of the slice ``piece``: ``calls`` on it, or what its way of keeping makes of them."""
    way = v.way(node)
    return calls(piece) if way is None else WAYS[way.name].weight_grad(v, node, piece, dy, calls)


def pass_gradient(v: Values, node: Node, dx: Argument, add: int, calls: Iterator[Call]) -> Iterator[Line]:
    """dL/dx by ``calls``, or by the way in which the layer keeps its input."""
    way = v.way(node)
    own = None if way is None else WAYS[way.name].input_grad
    return calls if own is None else own(v, node, dx, add, calls)


def _restored(restore: Callable[[Values, Node, Argument], Call]) -> Callable[..., Iterator[Line]]:
    """The layer's own kernel on a few channels after another, made again in scratch by ``restore`` from place ``j`` on."""

    def weight_grad(v: Values, node: Node, piece: Name, dy: Argument, calls: Calls) -> Iterator[Line]:
        number = v.slice_number(node)
        assert number is not None
        lines, most = (restore(v, node, piece), *calls(SOME)), tile(v.layer_of[node.name])
        yield Restored(piece, number, most, _top(v, node, number), positions(v, node), lines)

    return weight_grad


def _top(v: Values, node: Node, number: int) -> Argument:
    """What the scratch lies below: the stack of kept channels and passing gradients; of the classifier, its buffer ends there."""
    region, layer = v.region, v.layer_of[node.name]
    if v.is_whole(node):
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
    far = [layer for layer, way in ways.items() if isinstance(way, Filtered) and filtering.is_far(v, layer, way)]
    if far:
        raise ExportError(
            f"{', '.join(far)}: a device filters gradients of kernels that do not reach beyond neighbouring patches, these are "
            "dilated by at least a patch; use larger patches, or keep these layers another way"
        )
    cut = [layer for layer, way in ways.items() if isinstance(way, Filtered) and v.graph.layer[layer].taps is not None]
    if cut:
        raise ExportError(
            f"{', '.join(cut)}: a device filters gradients of whole kernels, these have patterns; keep these layers another way"
        )
    together = [] if region.accumulate or region.layout.accounting.layer_gradients else _of_all_channels(v)
    if together:
        raise ExportError(
            f"{', '.join(together)}: with --streamed and --no-accumulate a layer is trained channel by channel, but what "
            "prune and filter keep is read for all channels together; sum gradients, or keep these layers another way"
        )


def _of_all_channels(v: Values) -> list[str]:
    """Layers of which one channel after the other is trained, and whose way of keeping does not go channel by channel."""
    region, graph = v.region, v.graph
    ways = [layer for layer, way in region.layout.ways.items() if isinstance(way, Pruned | Filtered)]
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
    "int8": Row(_quantise, _restored(_dequantise)),
    "int4": Row(_quantise, _restored(_dequantise)),
    "prune": Row(_prune, _restored(_unprune)),
    "pattern": Row(_keep_pattern, _restored(_restore_pattern)),
    "filter": Row(filtering.keep, filtering.weight_grad, filtering.input_grad),
}
