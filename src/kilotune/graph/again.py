"""Inputs of linear layers that need not be kept: a layer norm or GELU in front keeps its own input, and makes them again."""

from kilotune.graph.node import Activation, Graph, LayerNorm, Linear, Node, Permute, Reshape, Roll


def makes_again(node: Node) -> bool:
    """Whether the node keeps its whole input for backward and its output is cheap to make from that, feature by feature."""
    is_norm = isinstance(node.op, LayerNorm) and node.op.axes == 1
    return is_norm or (isinstance(node.op, Activation) and node.op.function in ("gelu", "gelu_tanh"))


def way_back(graph: Graph, node: Node, makers: set[str]) -> tuple[str, ...]:
    """The nodes to run again for the input of the linear layer ``node``, the first of them among ``makers``; else none.

    Between may lie what only moves tokens (windows of Swin): the features stay the last axis.
    """
    if not isinstance(node.op, Linear):
        return ()
    names = [node.inputs[0]]
    while names[-1] not in makers:
        last = graph.node[names[-1]]
        if not _moves_tokens(graph, last):
            return ()
        names.append(last.inputs[0])
    return tuple(reversed(names))


def _moves_tokens(graph: Graph, node: Node) -> bool:
    axis = len(node.output.shape) - 1
    if isinstance(node.op, Permute):
        return node.op.axes[-1] == axis
    if isinstance(node.op, Roll):
        return axis not in node.op.axes
    return isinstance(node.op, Reshape) and graph.node[node.inputs[0]].output.shape[-1] == node.output.shape[-1]
