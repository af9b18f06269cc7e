"""The values of a network that do not depend on its input."""

import torch
from torch import Tensor

from kilotune.graph import node as ops
from kilotune.graph.node import Graph
from kilotune.ops.forward import FORWARD, Weights


@torch.no_grad()
def constants(graph: Graph, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By node, from parameters and buffers by name, in their number format and where they are."""
    made: dict[str, Tensor] = {}
    for node in (node for node in graph.nodes if node.name in graph.constants):
        weights = Weights()
        if isinstance(node.op, ops.Parameter):
            weights.weight = tensors[node.op.tensor]
        elif isinstance(node.op, ops.Constant):
            device = next(iter(tensors.values())).device
            weights.weight = torch.frombuffer(bytearray(node.op.data), dtype=getattr(torch, node.op.dtype)).to(device)
        made[node.name] = FORWARD[node.op.kind](node, weights, [made[name] for name in node.inputs], 1)
    return made
