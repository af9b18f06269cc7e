"""Making the input of a linear layer again, in the backward pass, from what the layer norm or GELU before it keeps."""

import torch
from torch import Tensor

from kilotune.graph.node import LayerNorm, Node, Reshape
from kilotune.ops.forward import FORWARD, Weights

Way = tuple[tuple[Node, Weights], ...]


def make_again(way: Way, x: Tensor, index: Tensor | None, n: int) -> Tensor:
    """Run the nodes of ``way`` on the kept ``x`` (..., c), for the features ``index`` only (None: all); n: the batch."""
    (maker, weights), *moves = way
    if index is None:
        y = FORWARD[maker.op.kind](maker, weights, [x], n)
    elif isinstance(maker.op, LayerNorm):
        y = _norm_features(maker.op, weights, x, index)
    else:
        y = FORWARD[maker.op.kind](maker, Weights(), [x.index_select(-1, index)], n)
    for node, weights in moves:
        if isinstance(node.op, Reshape):
            y = y.reshape(*node.output.at(n)[:-1], y.shape[-1])
        else:
            y = FORWARD[node.op.kind](node, weights, [y], n)
    return y


def _norm_features(op: LayerNorm, weights: Weights, x: Tensor, index: Tensor) -> Tensor:
    """Features ``index`` of the layer norm of ``x``: every row's statistics, but only these of its numbers."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    y = (x.index_select(-1, index) - mean) * (variance + op.epsilon).rsqrt()
    if weights.weight is not None:
        y = y * weights.weight[index]
    return y if weights.bias is None else y + weights.bias[index]
