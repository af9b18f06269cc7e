"""Gradients of weights that do not stay: how many numbers of them are there at a step, where they are not summed over samples."""

import numpy as np

from kilotune.graph.backward import BackwardStep
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.fixed import fixed_elements
from kilotune.memory.lifetime import Timeline
from kilotune.memory.rings import is_depthwise


def gradient_is_whole(accounting: Accounting, timeline: Timeline, node: str) -> bool:
    """Whether the gradients of all channels of a layer are there for a moment, at its backward step.

    A firmware with streamed blocks applies one channel after the other, except of a depthwise convolution that runs plainly: its
    input gradient may overwrite what they come from.
    """
    if accounting.accumulate or accounting.layer_gradients:
        return accounting.layer_gradients
    inside = any(node == one.name for segment in timeline.backward for one in segment.nodes)
    return not inside and is_depthwise(timeline.step_graph.graph.node[node])


def passing_bytes(accounting: Accounting, timeline: Timeline, pool: tuple[str, ...]) -> np.ndarray:
    """Bytes of gradients that pass in every draw from ``pool``, at each step (steps,)."""
    passing = np.zeros(len(timeline.names), dtype=np.int64)
    graph, heads = timeline.step_graph.graph, _streamed_heads(timeline)
    for step in timeline.step_graph.steps if not accounting.accumulate else ():
        now = timeline.backward_at[step.node.name]
        if accounting.layer_gradients:
            passing[now] += fixed_elements(graph, step)
        else:
            passing[now] = max(passing[now], _of_channel(graph, step, pool, step.node.name in heads))
    return passing * accounting.element_bytes


def _streamed_heads(timeline: Timeline) -> set[str]:
    return {block.head.name for segment in timeline.backward for block in segment.blocks if block.head}


def _of_channel(graph: Graph, step: BackwardStep, pool: tuple[str, ...], is_streamed_head: bool) -> int:
    """Numbers of the largest gradient at a step that is applied as a whole: of a channel of the weight, or of a bias.

    Of the head of a streamed block, a few numbers of each channel at a time; what stays is a sum of squares for each.
    """
    layer = graph.layer.get(step.node.layer)
    if layer is None or layer.node != step.node.name:
        return 0
    trained = step.channels is not None or layer.name in pool
    weight = layer.in_channels if is_streamed_head else layer.channel_weight_elements
    return max(weight * trained, step.bias * layer.out_channels)
