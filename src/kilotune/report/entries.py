"""Which numbers of a model a plan trains, and which changed: written out plainly, to judge the engine by."""

import torch
from torch import Tensor, nn

from kilotune.graph.node import Conv2d, Graph, Linear
from kilotune.update_plan import UpdatePlan


def trained_entries(graph: Graph, plan: UpdatePlan, model: nn.Module) -> dict[str, Tensor]:
    """Masks, by parameter, of the entries that ``plan`` trains, written out channel by channel."""
    tensors = dict(model.named_parameters())
    masks: dict[str, Tensor] = {}

    def mask(name: str) -> Tensor:
        return masks.setdefault(name, torch.zeros_like(tensors[name], dtype=torch.bool))

    for layer, axis, indices in plan.channels:
        op = graph.node[graph.find_layer(layer).node].op
        assert isinstance(op, Conv2d | Linear)
        chosen = mask(op.weight)
        for channel in indices:
            rows, column = _readers(op, channel) if axis == "in" else (slice(channel, channel + 1), slice(None))
            chosen[rows, column] = True
    for layer in plan.biases:
        mask(_bias_of(graph, layer)).fill_(True)
    if plan.classifier and graph.classifier is not None:
        op = graph.node[graph.layer[graph.classifier].node].op
        assert isinstance(op, Conv2d | Linear)
        mask(op.weight).fill_(True)
        if graph.layer[graph.classifier].has_bias:
            mask(_bias_of(graph, graph.classifier)).fill_(True)
    return masks


def _readers(op: Conv2d | Linear, channel: int) -> tuple[slice, int]:
    """Output rows and weight column that read an input channel."""
    groups = op.groups if isinstance(op, Conv2d) else 1
    group, column = divmod(channel, op.weight_shape[1])
    n_rows = op.weight_shape[0] // groups
    return slice(group * n_rows, (group + 1) * n_rows), column


def _bias_of(graph: Graph, layer: str) -> str:
    op = graph.node[graph.find_layer(layer).node].op
    assert isinstance(op, Conv2d | Linear)
    name = op.norm.bias if op.norm is not None and op.norm.bias is not None else op.bias
    assert name is not None  # the plan was checked
    return name


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(a: Tensor, b: Tensor) -> Tensor:
    """Entry by entry, whether the bits are equal: NaN equals itself, 0.0 differs from -0.0."""
    integer = _INTEGERS[a.element_size()]
    return a.contiguous().view(integer) == b.contiguous().view(integer)
