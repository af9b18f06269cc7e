"""Batch norms for a network in which they were folded: offline training of a deep network needs them, int8 files have none."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn


@torch.no_grad()
def unfold(model: nn.Module, images: Tensor) -> nn.Module:
    """The same model, computing the same, with a batch norm in every place that was left empty behind a convolution.

    The statistics are those of ``images`` (n, c, h, w), at least two; scale and shift undo them, and take up the
    convolution's bias: y = W x + b = s (W x - m) / sqrt(v + e) + (m + b) with s = sqrt(v + e).
    """
    places = list(_empty_places(model))
    outputs: dict[nn.Conv2d, Tensor] = {}
    hooks = [
        conv.register_forward_hook(lambda module, _, y: outputs.__setitem__(module, _moments(y)))
        for _, _, conv in places
    ]
    was_training = model.training
    model.eval()(images)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    for parent, place, conv in places:
        parent[place] = _norm(conv, *outputs[conv])
        conv.bias = None
    return model


def _empty_places(model: nn.Module) -> Iterator[tuple[nn.Sequential, int, nn.Conv2d]]:
    for parent in model.modules():
        if isinstance(parent, nn.Sequential):
            children = list(parent)
            for place, (before, module) in enumerate(pairwise(children), start=1):
                if isinstance(module, nn.Identity) and isinstance(before, nn.Conv2d):
                    yield parent, place, before


def _moments(y: Tensor) -> Tensor:
    return torch.stack([y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)])


def _norm(conv: nn.Conv2d, mean: Tensor, variance: Tensor) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(conv.out_channels).to(mean).train(conv.training)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    bias = mean.new_zeros(mean.shape) if conv.bias is None else conv.bias
    norm.running_mean.copy_(mean - bias)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    return norm
