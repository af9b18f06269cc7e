"""Segments that run without their widest values, as calls: blocks by channels, forward and backward, and chains of rows."""

from collections.abc import Iterator

import numpy as np

from kilotune.codegen.program import Address, Argument, Call, Line, Name, Place, Scope, Struct
from kilotune.codegen.values import NOTHING, Values
from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Node
from kilotune.memory.segments import Block, Segment

_LARGEST = float(np.finfo(np.float32).max)
_HIGH = {"relu": _LARGEST, "relu6": 6.0}
"""What the functions of ``memory.segments.STREAMABLE`` clamp to."""

_Row = tuple[Argument | str, ...]


def forward_segment(v: Values, segment: Segment, keeping: bool) -> Iterator[Line]:
    """The forward pass of a segment."""
    block, y = segment.blocks[-1], v.value(segment.output.name)
    if segment.as_bytes:
        _, height, width = v.shape(segment.output.name)
        yield Call("kt_stream_rows", (_chain(v, segment), height, width, y))
    else:
        yield from _channels(v, segment, keeping)
    last = block.function_behind(block.projection)
    if last is not None:
        yield _in_place(v, last, y, keeping)
    if block.residual:
        yield Call("kt_add", (v.value(block.source.name), y, y, v.elements(segment.output.name)))


def _channels(v: Values, segment: Segment, keeping: bool) -> Iterator[Line]:
    [block], x = segment.blocks, v.value(segment.source.name)
    piece = v.slice(block.head) if block.head else None
    if keeping and piece is not None:
        yield Call("kt_keep_channels", (x, piece, v.plane(segment.source.name)))
    scratch = v.region.buffer(f"{segment.output.name}.lines")
    arguments = (_shape(v, block), x, Name("layers"), v.value(segment.output.name), scratch)
    yield Scope((_layers(v, block, "layers", keeping),), (Call("kt_stream_channels", arguments),))


def _in_place(v: Values, node: Node, at: Argument, keeping: bool) -> Call:
    """An activation function where its input has no other name."""
    assert isinstance(node.op, ops.Activation)
    mask = v.mask(f"{node.name}.mask") if keeping else None
    names = (at, at) if mask is None else (at, at, mask)
    return Call(f"kt_{node.op.function}{'' if mask is None else '_mask'}", (*names, v.elements(node.name)))


def backward_segment(v: Values, steps: tuple[BackwardStep, ...], segment: Segment, step: Argument) -> Iterator[Line]:
    """The backward pass of a segment, without the gradients of its projection. step: number of the update since the draw."""
    [block] = segment.blocks
    route = v.region.layout.timeline.routes[segment.output.name]
    dy = v.region.buffer(route.arriving)
    dx: Argument = NOTHING
    if route.inputs:
        [arrival] = route.inputs
        dx = v.region.buffer(arrival.buffer)
        if block.residual:
            yield Call("kt_copy", (dy, 0, 0, dx, 0, 0, 1, 1, v.elements(arrival.value), 0))
    lines = v.region.buffer(f"{segment.output.name}.gradient.lines")
    trained = Struct(
        "kt_block_trained", "trained", tuple(_trained(v, node, steps) for node in (block.head, block.depthwise))
    )
    layers = _layers(v, block, "layers", True)
    arguments = (_shape(v, block), dy, Name("layers"), Name("trained"), dx, lines, int(block.residual))
    if v.region.accumulate:
        yield Scope((layers, trained), (Call("kt_stream_channels_grad", arguments),))
        return
    squares = _squares(v, block)
    yield Scope((layers, trained), (Call("kt_stream_channels_train", (*arguments, squares, Name("rule"), step)),))


def _squares(v: Values, block: Block) -> Argument:
    """Where sums of squares of the head's gradients lie until the norms are known; nowhere if nobody observes them."""
    number = v.slice_number(block.head) if block.head else None
    if block.head is None or number is None or v.norms(number) is None:
        return NOTHING
    return v.region.passing(block.head.name, v.layer_of[block.head.name].in_channels)


def _shape(v: Values, block: Block) -> Address:
    convs = [
        NOTHING if node is None else v.convolution(node) for node in (block.head, block.depthwise, block.projection)
    ]
    return v.struct("kt_block_shape", f"block{v.number[block.depthwise.name]}", *convs)


def _layers(v: Values, block: Block, name: str, keeping: bool) -> Struct:
    """The three convolutions of a block with the functions behind the first two."""
    rows = [_layer(v, block, node, keeping) for node in (block.head, block.depthwise)]
    return Struct("kt_block_layer", name, (*rows, _layer(v, block, block.projection, False)))


def _layer(v: Values, block: Block, node: Node | None, keeping: bool) -> _Row:
    if node is None:
        return (*("NULL",) * 7, 0.0, 0.0)
    function = None if node is block.projection else block.function_behind(node)
    mask = v.mask(f"{function.name}.mask") if function and keeping else None
    op = function.op if function else None
    low, high = (0.0, _HIGH[op.function]) if isinstance(op, ops.Activation) else (-_LARGEST, _LARGEST)
    take, (weight, scale, *patterns) = f"kt_take_{v.format(node)}", v.weight(node)
    places = patterns or (NOTHING,)
    return (take, weight, scale, *places, v.bias(node), v.slice(node) or NOTHING, mask or NOTHING, low, high)


def _trained(v: Values, node: Node | None, steps: tuple[BackwardStep, ...]) -> _Row:
    """A row of ``kt_block_trained``; nothing of a layer that the backward pass does not reach."""
    nothing: _Row = ("NULL",) * 7
    step = next((one for one in steps if node is not None and one.node.name == node.name), None)
    if node is None or step is None:
        return nothing
    number, trained = v.slice_number(node), v.region.trained.get(f"{node.layer}.bias")
    weight: _Row = nothing[:3]
    if number is not None:
        weight = (Address(f"kt_layers[{number}]"), v.weight_scale(node), v.norms(number) or NOTHING)
    if trained is None or not step.bias:
        return (*weight, *nothing[3:])
    places = (trained.value, trained.gradient or NOTHING, trained.velocity or NOTHING)
    return (*weight, *places, v.bias_scale(node))


def _chain(v: Values, segment: Segment) -> Address:
    """Who makes the rows of a chain from the image of bytes, as constants; nothing of it is ever trained."""
    c, h, w = v.shape(segment.source.name)
    values = v.constant("pixels", v.pixels)
    step = 256 if len(v.pixels) > 1 else 0
    image = v.region.buffer(segment.source.name)._replace(as_bytes=True)
    v.struct("kt_byte_rows", "bytes", "{kt_rows_of_bytes}", image, values, c, h, w, step)
    before, offset = Address("bytes.rows"), v.region.buffer(f"{segment.output.name}.lines").offset
    for block, mode, elements in zip(segment.blocks, segment.modes, segment.source_elements, strict=True):
        number = v.number[block.depthwise.name]
        layers = _layers(v, block, f"layers{number}", False)
        v.structs.setdefault(layers.name, layers)
        source, scratch = Place(offset), Place(offset + 4 * elements)
        n_source = block.source_rows(mode)
        fields = (before, _shape(v, block), Name(layers.name), source, scratch, n_source)
        v.struct("kt_block_rows", f"rows{number}", f"{{kt_rows_{mode}}}", *fields)
        before, offset = Address(f"rows{number}.rows"), offset + 4 * (elements + block.forward_elements(mode))
    return before
