"""A torch model as what ``codegen`` takes: a network without dropout, and its folded weights as arrays."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from kilotune.codegen.drawing import Drawing
from kilotune.codegen.numbers import Folded, WeightsDtype
from kilotune.codegen.region import Region
from kilotune.codegen.values import Values
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.graph.node import Graph, Node
from kilotune.graph.patterns import patterns
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout
from kilotune.ops.constants import constants
from kilotune.ops.slices import bias_name, folded, norm_scale, norm_shift
from kilotune.update_plan import UpdatePlan


def lay_out(
    graph: Graph,
    plan: UpdatePlan,
    accounting: Accounting,
    total_bytes: int | None = None,
    whole: tuple[str, ...] = (),
) -> Region:
    """The arena in which ``plan``, or any draw from its pool, runs.

    total_bytes: of the worst draw, if it is not this one. whole: layers of which every draw trains all input channels; these are
    read where they are, no copy is kept.
    """
    pool = plan.pool or tuple(chosen.layer for chosen in plan.channels)
    layers = tuple(layer for layer in graph.layers if layer.name in set(pool) - set(whole))
    names = tuple(layer.name for layer in layers)
    layout = Layout.of(graph, names, plan.biases, plan.classifier, accounting, plan.keeps, whole=whole)
    if total_bytes is None:
        drawn = tuple(one for one in plan.channels if one.layer not in whole)
        total_bytes = layout.report(replace(plan, channels=drawn, pool=())).total_bytes
    neurons = [one.layer for one in plan.channels if not graph.find_layer(one.layer).keeps_channels(one.axis)]
    return Region(layout, layers, total_bytes, plan.state_bytes, frozenset(neurons))


def describe(
    model: nn.Module,
    region: Region,
    dtype: WeightsDtype,
    drawing: Drawing | None = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    seed: int = 0,
    given: bool = False,
) -> Values:
    """Everything that calls are written from; mean, std: of the normalisation of pixels, where the image is bytes; seed, given:
    as ``Values`` has them.

    Raises ExportError for a weight that the number format cannot hold.
    """
    tensors = {name: t.detach().float().cpu() for name, t in [*model.named_parameters(), *model.named_buffers()]}
    graph = region.layout.graph
    weights = {
        node.name: _folded(node, tensors)
        for node in graph.nodes
        if isinstance(node.op, ops.Conv2d | ops.Linear | ops.BatchNorm | ops.LayerNorm)
    }
    values = {name: _array(value) for name, value in constants(graph, tensors).items() if value.is_floating_point()}
    return Values(region, weights, values, dtype, drawing, pixel_values(mean, std), seed, given)


def pixel_values(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(c or 1, 256) the number that each byte stands for, to the bit as ``data.augment`` makes it."""
    scaled = torch.arange(256, dtype=torch.float32).div(255)
    shift, scale = (torch.tensor(values, dtype=torch.float32).view(-1, 1) for values in (mean, std))
    return _array(scaled.sub(shift).div(scale))


def _folded(node: Node, tensors: dict[str, Tensor]) -> Folded:
    op = node.op
    if isinstance(op, ops.BatchNorm):
        return Folded(_array(norm_scale(op.norm, tensors)), _array(norm_shift(op.norm, tensors)))
    if isinstance(op, ops.LayerNorm):
        n = prod(node.output.shape[-op.axes :])
        gamma = torch.ones(n) if op.weight is None else tensors[op.weight]
        return Folded(_array(gamma), _array(torch.zeros(n) if op.bias is None else tensors[op.bias]))
    assert isinstance(op, ops.Conv2d | ops.Linear)
    if op.weight not in tensors:
        raise ExportError(f"{node.layer} has a weight that is computed, not stored; it cannot become C")
    weight, bias = folded(op, tensors)
    scale = None if op.norm is None else _array(norm_scale(op.norm, tensors))
    pattern = _pattern(node, tensors)
    is_shift = op.norm is not None and bias_name(op) == op.norm.bias
    zeros = np.zeros(op.weight_shape[0], np.float32)
    bias_scale = None if is_shift else scale
    return Folded(_array(weight), zeros if bias is None else _array(bias), scale, bias_scale, pattern)


def _pattern(node: Node, tensors: dict[str, Tensor]) -> np.ndarray | None:
    """The pattern of each kernel (o, c/groups), None where there are none."""
    if not isinstance(node.op, ops.Conv2d) or node.op.pattern is None:
        return None
    weight, pattern = tensors[node.op.weight].flatten(2), tensors[node.op.pattern].long()
    places = torch.tensor(patterns(node.op.weight_shape[2]))[pattern]
    beside = int(torch.count_nonzero(weight.scatter(2, places, 0.0)))
    if beside:
        raise ExportError(
            f"{node.layer}: {beside} weights beside the taps of their patterns are not zero; "
            "set them to zero with kilotune.prune.patterns.project"
        )
    return pattern.numpy().astype(np.uint8)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float32)
