"""Forward pass of each kind of node: a table. ``run(node, weights, inputs, n)`` gives the output value."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.graph.node import Node
from kilotune.ops import elementwise, integers, keep, linear


@dataclass
class Weights:
    """What a node reads besides its inputs: folded weight and bias of a layer, or the tensors of a norm; all frozen."""

    weight: Tensor | None = None
    bias: Tensor | None = None
    inplace: bool = False
    layout: torch.memory_format = field(default=torch.contiguous_format)
    training: bool = True
    dtype: torch.dtype = torch.float32


Run = Callable[[Any, Weights, list[Tensor], int], Tensor]


def _conv2d(node: Node, w: Weights, x: list[Tensor], n: int) -> Tensor:
    return linear.conv2d(node.op, w.weight, w.bias, x[0])  # type: ignore[arg-type]


def _linear(node: Node, w: Weights, x: list[Tensor], n: int) -> Tensor:
    return F.linear(x[0], w.weight, w.bias)  # type: ignore[arg-type]


def _batch_norm(node: Node, w: Weights, x: list[Tensor], n: int) -> Tensor:
    return torch.addcmul(per_channel(w.bias, x[0]), x[0], per_channel(w.weight, x[0]))


def per_channel(vector: Any, like: Tensor) -> Tensor:
    """(c,) as a tensor that broadcasts along axis 1 of ``like``."""
    return vector.view(1, -1, *[1] * (like.dim() - 2))


def _add(node: Node, w: Weights, x: list[Tensor], n: int) -> Tensor:
    return (
        x[0].add_(x[1]) if w.inplace and x[0].shape == torch.broadcast_shapes(x[0].shape, x[1].shape) else x[0] + x[1]
    )


def _affine(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    scaled = x[0] if node.op.scale == 1 and node.op.shift != 0 else x[0] * node.op.scale
    return scaled if node.op.shift == 0 else scaled + node.op.shift


def _max_pool(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    op = node.op
    return F.max_pool2d(x[0], op.kernel, op.stride, op.padding, op.dilation, op.ceil_mode)


def _avg_pool(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    op = node.op
    return F.avg_pool2d(x[0], op.kernel, op.stride, op.padding, op.ceil_mode, op.count_include_pad)


def _slice(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    cut = [slice(None)] * x[0].dim()
    cut[node.op.axis] = slice(node.op.start, node.op.stop, node.op.step)
    return _written_out(x[0][tuple(cut)])


def _written_out(view: Tensor) -> Tensor:
    """In memory of its own, also where the view is already contiguous: its input may be kept beside it."""
    return view.clone(memory_format=torch.contiguous_format)


def _pad(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    top, bottom, left, right = node.op.padding
    return F.pad(x[0], (*(0, 0) * node.op.behind, left, right, top, bottom))


def _integer(node: Node, w: Weights, x: list[Tensor], n: int) -> Tensor:
    y = integers.FUNCTIONS[node.op.function](x, node.op.number)  # type: ignore[attr-defined]
    return y.to(w.dtype) if y.is_floating_point() else y


def _layer_norm(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    return F.layer_norm(x[0], x[0].shape[-node.op.axes :], w.weight, w.bias, node.op.epsilon)


def _matmul(node: Any, w: Weights, x: list[Tensor], n: int) -> Tensor:
    product = x[0] @ (x[1].transpose(-2, -1) if node.op.transpose_b else x[1])
    return product if node.op.scale == 1 else product.mul_(node.op.scale)


FORWARD: dict[str, Run] = {
    "parameter": lambda node, w, x, n: w.weight,  # type: ignore[dict-item, return-value]
    "constant": lambda node, w, x, n: w.weight.view(node.output.shape),  # type: ignore[union-attr]
    "lookup": lambda node, w, x, n: F.embedding(x[1], x[0].flatten(1)).view(*x[1].shape, *x[0].shape[1:]),
    "integer": _integer,
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "activation": lambda node, w, x, n: elementwise.activate(node.op, x[0], w.inplace),
    "add": _add,
    "mul": lambda node, w, x, n: x[0] * x[1],
    "affine": _affine,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": lambda node, w, x, n: F.adaptive_avg_pool2d(x[0], node.op.output_size),
    "mean": lambda node, w, x, n: x[0].mean(node.op.axes, node.op.keep),
    "reshape": lambda node, w, x, n: x[0].reshape(node.output.at(n)),
    "permute": lambda node, w, x, n: _written_out(x[0].permute(node.op.axes)),
    "slice": _slice,
    "expand": lambda node, w, x, n: _written_out(x[0].expand(node.output.at(n))),
    "concat": lambda node, w, x, n: torch.cat(x, node.op.axis),
    "pad": _pad,
    "roll": lambda node, w, x, n: x[0].roll(node.op.shifts, node.op.axes),
    "masked": lambda node, w, x, n: torch.where(x[1], x[0], node.op.fill),
    "dropout": lambda node, w, x, n: F.dropout(x[0], node.op.p, w.training),
    "layer_norm": _layer_norm,
    "softmax": lambda node, w, x, n: x[0].softmax(node.op.axis),
    "matmul": _matmul,
}


def _activation_keeping(node: Any, w: Weights, x: list[Tensor], n: int) -> tuple[Tensor, Tensor]:
    y = elementwise.activate(node.op, x[0], w.inplace)
    return y, keep.pack_bits(elementwise.passes(node.op, y), w.layout)


def _max_pool_keeping(node: Any, w: Weights, x: list[Tensor], n: int) -> tuple[Tensor, Tensor]:
    op = node.op
    y, indices = F.max_pool2d(x[0], op.kernel, op.stride, op.padding, op.dilation, op.ceil_mode, return_indices=True)
    return y, keep.pack_taps(indices, x[0].shape[-1], op)


def _dropout_keeping(node: Any, w: Weights, x: list[Tensor], n: int) -> tuple[Tensor, Tensor]:
    p = node.op.p if w.training else 0.0
    mask = torch.empty_like(x[0]).bernoulli_(1 - p)
    return x[0] * mask / (1 - p), keep.pack_bits(mask, w.layout)


# Kinds whose forward pass also makes what they keep (a mask, window positions).
FORWARD_KEEPING: dict[str, Callable[[Any, Weights, list[Tensor], int], tuple[Tensor, Tensor]]] = {
    "activation": _activation_keeping,
    "max_pool": _max_pool_keeping,
    "dropout": _dropout_keeping,
}
