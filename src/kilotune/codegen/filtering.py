"""Gradient filtering as calls: sums over patches are kept, both gradients are made from means over patches."""

from collections.abc import Callable, Iterator
from math import ceil

from kilotune.codegen.program import Address, Argument, Below, Call, IfDrawn, Line, Name, Place
from kilotune.codegen.values import Values
from kilotune.graph.node import Conv2d, Node
from kilotune.graph.tiles import filter_means, filter_working
from kilotune.graph.ways import Filtered


def keep(v: Values, node: Node, piece: Argument) -> Call:
    """Sums over the patches of the input."""
    return Call("kt_keep_filter", (*_geometry(v, node), v.value(node.inputs[0]), piece, _way(v, node).patch))


def weight_grad(
    v: Values, node: Node, piece: Name, dy: Argument, calls: Callable[[Argument], Iterator[Call]]
) -> Iterator[Line]:
    """The means, which the input gradient reads too, and the product of both."""
    means, working = _scratch(v, node)
    arguments = (*_geometry(v, node), piece, means, v.weight_scale(node), working)
    yield _if_drawn(
        v,
        node,
        Call("kt_patch_means", (*_geometry(v, node), dy, _way(v, node).patch, means)),
        Call("kt_filter_weight_grad", arguments),
    )


def input_grad(v: Values, node: Node, dx: Argument, add: int, calls: Iterator[Call]) -> Iterator[Line]:
    """The gradient of the patches, spread over their positions; of a layer that is not drawn, as ``calls`` make it."""
    means, working = _scratch(v, node)
    piece = v.slice(node)
    assert piece is not None
    arguments = (*_geometry(v, node), means, *v.weight(node), piece, _way(v, node).patch, dx, working, add)
    yield _if_drawn(v, node, Call(f"kt_filter_input_grad_{v.suffix(node)}", arguments), otherwise=tuple(calls))


def is_far(v: Values, layer: str, way: Filtered) -> bool:
    """Whether taps are apart by patches, so that they have gradients of their own."""
    op = v.graph.weighted(layer)
    return isinstance(op, Conv2d) and min(op.dilation) >= way.patch


def _if_drawn(v: Values, node: Node, *lines: Call, otherwise: tuple[Line, ...] = ()) -> IfDrawn:
    number = v.slice_number(node)
    assert number is not None
    return IfDrawn(number, lines, otherwise)


def _way(v: Values, node: Node) -> Filtered:
    way = v.way(node)
    assert isinstance(way, Filtered)
    return way


def _geometry(v: Values, node: Node) -> tuple[Address, Address]:
    """The convolution, and the one between the maps of patches."""
    op, patch = node.op, _way(v, node).patch
    assert isinstance(op, Conv2d)
    (c, _, _), (o, *output_hw) = v.shape(node.inputs[0]), v.shape(node.name)
    grid = [ceil(size / patch) for size in output_hw]
    coarse = v.struct("kt_conv", f"coarse{v.number[node.name]}", c, *grid, o, *grid, op.groups, 1, 1, 1, 1, 1, 1, 0, 0)
    return v.convolution(node), coarse


def _scratch(v: Values, node: Node) -> tuple[Argument, Argument]:
    """Where the means lie, and behind them what one channel needs: below the kept channels, and gradients that pass."""
    region, layer, way = v.region, v.layer_of[node.name], _way(v, node)
    number, means, working = v.slice_number(node), filter_means(way, layer), filter_working(way, layer)
    assert number is not None
    if v.is_whole(node):
        at = region.buffer(f"{node.name}.compressed.reading")
        return at, Place(at.offset + 4 * means)
    field = "kept" if region.accumulate else "gradient"
    return Below(number, field, means + working), Below(number, field, working)
