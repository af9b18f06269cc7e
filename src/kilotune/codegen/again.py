"""Inputs of trained layers that are made again in the backward pass, from what the layer norm or GELU before them keeps."""

from collections.abc import Iterator
from math import prod

import numpy as np

from kilotune.codegen.program import Address, Argument, Call, Name
from kilotune.codegen.tokens import norm_arguments
from kilotune.codegen.values import Values
from kilotune.graph import node as ops
from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Node

Calls = Iterator[Call]


def make_again(v: Values, step: BackwardStep) -> Calls:
    """Put the input of a trained layer, or its chosen features, where its weight gradient reads it; nothing if it is kept."""
    number = v.slice_number(step.node)
    if number is None or step.node.name not in v.made_again:
        return
    maker, *moves = (v.graph.node[name] for name in step.again)
    c = v.full(maker.name)[-1]
    n = v.elements(maker.name) // c
    rows = v.constant(f"rows{v.number[step.node.name]}", _order(v, maker, moves))
    x = v.value(maker.inputs[0])
    if number == len(v.region.pool):
        yield from _whole(v, maker, x, rows, v.region.buffer(f"{step.node.name}.again"), n, c)
    elif step.node.layer in v.region.neurons:
        yield from _whole(v, maker, x, rows, Name(f"kt_slices[{number}].kept"), n, c)
    elif isinstance(maker.op, ops.LayerNorm):
        piece = Address(f"kt_slices[{number}]")
        yield Call("kt_layer_norm_features", (x, rows, *norm_arguments(v, maker), piece, n, c, maker.op.epsilon))
    else:
        assert isinstance(maker.op, ops.Activation)
        yield Call(f"kt_{maker.op.function}_features", (x, rows, Address(f"kt_slices[{number}]"), n, c))


def _whole(v: Values, maker: Node, x: Argument, rows: Argument, to: Argument, n: int, c: int) -> Calls:
    yield Call("kt_take_rows", (x, rows, to, n, c))
    if isinstance(maker.op, ops.LayerNorm):
        yield Call("kt_layer_norm", (to, *norm_arguments(v, maker), to, n, c, maker.op.epsilon))
    else:
        assert isinstance(maker.op, ops.Activation)
        yield Call(f"kt_{maker.op.function}", (to, to, n * c))


def _order(v: Values, maker: Node, moves: list[Node]) -> np.ndarray:
    """For each row that the layer reads, the row of the maker's output that it is."""
    shape = v.full(maker.name)[:-1]
    rows = np.arange(prod(shape), dtype=np.uint16).reshape(shape)
    for node in moves:
        if isinstance(node.op, ops.Permute):
            rows = rows.transpose(node.op.axes[:-1])
        elif isinstance(node.op, ops.Roll):
            rows = np.roll(rows, node.op.shifts, node.op.axes)
        else:
            rows = rows.reshape(v.full(node.name)[:-1])
    return rows.reshape(-1)
