"""Weight gradients from a core and factors, without the input (HOSVD, arXiv 2411.06346, appendix A.2)."""

from dataclasses import replace

import torch
from torch import Tensor

from kilotune.graph.node import Conv2d, Linear
from kilotune.ops.keep import cut_channels
from kilotune.ops.linear import conv2d_live_grad, linear_live_grad
from kilotune.ops.low_rank import contract, expand
from kilotune.ops.place import Place
from kilotune.update_plan import ChannelSet


def tucker_grad(place: Place, parts: list[Tensor], dy: Tensor) -> Tensor:
    """Gradient of the slice from ``parts`` = core and a factor per mode.

    Modes that the gradient sums over one by one (samples, tokens) are contracted with dL/dy, positions of a convolution
    are expanded in the core, and channels last of all, in the gradient itself.
    """
    core, *factors = parts
    dy = dy.to(core.dtype)
    for mode, factor in enumerate(factors):
        if not factor.numel() or mode == place.channel_axis:
            continue
        if mode == place.batch_axis or isinstance(place.op, Linear):
            dy = contract(dy, factor, mode)
        else:
            core = expand(core, factor, mode)
    channels = factors[place.channel_axis]
    if not channels.numel():
        return place.live_grad(core, dy)
    return place.slice.pick(_by_components(place, core, channels, dy))


def svd_grad(place: Place, parts: list[Tensor], dy: Tensor) -> Tensor:
    """The same with a factor of the samples alone."""
    core, factor = parts
    dy = dy.to(core.dtype)
    return place.live_grad(core, contract(dy, factor, place.batch_axis) if factor.numel() else dy)


def _by_components(place: Place, core: Tensor, factor: Tensor, dy: Tensor) -> Tensor:
    """Gradient with respect to every component (m) of the channels, and from that to the channels themselves.

    factor: (c, m), of the kept channels. Every output that is needed meets every component, whatever the groups.
    """
    index, axis, op = place.slice.index, place.slice.chosen.axis, place.op
    groups, components = op.groups, ChannelSet("", "in", tuple(range(factor.shape[1])))
    everything = torch.arange(factor.shape[1], device=core.device)
    if isinstance(op, Linear):
        dy = dy.index_select(-1, index) if axis == "out" else dy
        grad = linear_live_grad(op, components, everything, core, dy, True)
        return (factor @ grad).T if axis == "out" else factor @ grad
    per_group, outputs_per_group = op.weight_shape[1], op.weight_shape[0] // groups
    group = index // (per_group if axis == "in" else outputs_per_group)
    if axis == "out":
        dy = cut_channels(dy, 1, index)
    elif groups > 1:
        outputs = group[:, None] * outputs_per_group + torch.arange(outputs_per_group, device=dy.device)
        dy = cut_channels(dy, 1, outputs.flatten())
    grad = conv2d_live_grad(_ungrouped(op, dy.shape[1], factor.shape[1]), components, everything, core, dy, True)
    kernel = grad.shape[2:]
    if groups == 1:
        grad = (factor @ grad.flatten(1)).view(-1, *grad.shape[1:])
        return grad if axis == "in" else grad.transpose(0, 1)
    if axis == "in":
        return torch.einsum("jm,mjoyx->joyx", factor, grad.view(len(grad), len(index), outputs_per_group, *kernel))
    rows = factor[:, None] if place.sliced else factor.view(groups, per_group, -1)[group]
    return torch.einsum("jcm,mjyx->jcyx", rows, grad)


def _ungrouped(op: Conv2d, n_outputs: int, n_inputs: int) -> Conv2d:
    return replace(op, weight_shape=(n_outputs, n_inputs, *op.weight_shape[2:]), groups=1, pattern=None)
