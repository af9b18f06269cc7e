"""Pattern pruning: each spatial kernel keeps the taps of one of eight patterns, and remembers which."""

import torch
from torch import Tensor, nn

from kilotune.graph.patterns import BUFFER, has_patterns, patterns


@torch.no_grad()
def prune_to_patterns(model: nn.Module) -> tuple[str, ...]:
    """Cut the kernels of all depthwise convolutions down, in place: each to the pattern that keeps most of its energy.

    The Euclidean projection of PatDNN (Niu et al. 2020, section 4.2). Returns the names of the layers.
    """
    cut = []
    for name, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d) and conv.groups == conv.in_channels > 1 and has_patterns(conv.kernel_size):
            energy = conv.weight.square().flatten(2)
            kept = torch.stack([energy[..., list(taps)].sum(2) for taps in patterns(conv.kernel_size[0])], 2)
            conv.register_buffer(BUFFER, kept.argmax(2).to(torch.uint8))
            cut.append(name)
    project(model)
    return tuple(cut)


@torch.no_grad()
def project(model: nn.Module) -> None:
    """Set the taps outside the patterns to zero again, as after every step of a training that does not know of them."""
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and hasattr(conv, BUFFER):
            conv.weight.mul_(_mask(conv))


def _mask(conv: nn.Conv2d) -> Tensor:
    side = conv.kernel_size[0]
    table = torch.zeros(len(patterns(side)), side * side, dtype=conv.weight.dtype, device=conv.weight.device)
    for number, taps in enumerate(patterns(side)):
        table[number, list(taps)] = 1
    return table[conv.get_buffer(BUFFER).long()].view_as(conv.weight)
