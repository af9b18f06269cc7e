"""ProxylessNAS (Cai et al. 2019) at width 0.3, and the class that MCUNet shares with it, under MIT HAN Lab's names."""

import re
from collections import OrderedDict
from dataclasses import replace

from torch import Tensor, nn

from kilotune.models.inverted import Architecture, Block, InvertedResidual
from kilotune.models.layers import Layers, initialise

WIDTH_03 = Architecture(
    stem=16,
    blocks=(
        Block(3, 1, 16, 8),
        Block(5, 2, 24, 16),
        Block(3, 1, 48, 16),
        Block(7, 2, 48, 16),
        Block(3, 1, 48, 16),
        Block(5, 1, 48, 16),
        Block(5, 1, 48, 16),
        Block(7, 2, 96, 24),
        Block(5, 1, 72, 24),
        Block(5, 1, 72, 24),
        Block(5, 1, 72, 24),
        Block(5, 1, 144, 32),
        Block(5, 1, 96, 32),
        Block(5, 1, 96, 32),
        Block(5, 1, 96, 32),
        Block(7, 2, 192, 64),
        Block(7, 1, 384, 64),
        Block(7, 1, 192, 64),
        Block(7, 1, 192, 64),
        Block(7, 1, 384, 96),
    ),
    mix=384,
    epsilon=1e-3,
)

_BLOCK = re.compile(r"blocks\.(\d+)\.")


class ProxylessNet(nn.Module):
    """``(n,3,h,w) -> (n,classes)``; state dict as in mit-han-lab/proxylessnas and mit-han-lab/mcunet."""

    def __init__(self, architecture: Architecture, classes: int, folded: bool):
        super().__init__()
        self.architecture = architecture
        make = Layers(architecture.padding, architecture.epsilon, folded)
        self.first_conv = _unit(make, 3, architecture.stem, 3, 2)
        self.blocks = nn.Sequential(
            *(
                InvertedResidual("mobile_inverted_conv", _body(make, c, block), block.is_residual(c))
                for c, block in architecture.steps
            )
        )
        last = architecture.blocks[-1].out
        self.feature_mix_layer = _unit(make, last, architecture.mix) if architecture.mix else nn.Identity()
        self.classifier = nn.Sequential(OrderedDict(linear=nn.Linear(architecture.features, classes)))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, h, w)."""
        x = self.feature_mix_layer(self.blocks(self.first_conv(x)))
        return self.classifier(x.mean((2, 3)))


def proxylessnas(mix: bool = True, classes: int = 1000, folded: bool = False) -> ProxylessNet:
    """ProxylessNAS at width 0.3 with random weights.

    mix: with the last 1x1 convolution 96 -> 384; the network of the 256 KB training paper has none.
    folded: convolutions with a bias instead of batch norms.
    """
    return ProxylessNet(WIDTH_03 if mix else replace(WIDTH_03, mix=None), classes, folded)


def renumber_blocks(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with ``blocks.<i>`` counted without gaps: a searched network leaves out the numbers of skipped blocks."""
    found = sorted({int(match[1]) for match in map(_BLOCK.match, tensors) if match})
    place = {str(number): position for position, number in enumerate(found)}
    return {_BLOCK.sub(lambda m: f"blocks.{place[m[1]]}.", name, count=1): value for name, value in tensors.items()}


def _unit(make: Layers, c: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = make.conv(c, o, kernel, stride, groups)
    return nn.Sequential(OrderedDict(conv=conv, bn=make.norm(o), act=nn.ReLU6(inplace=True)))


def _body(make: Layers, c: int, block: Block) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if block.expands(c):
        parts["inverted_bottleneck"] = _unit(make, c, block.mid)
    parts["depth_conv"] = _unit(make, block.mid, block.mid, block.kernel, block.stride, block.mid)
    parts["point_linear"] = nn.Sequential(OrderedDict(conv=make.conv(block.mid, block.out), bn=make.norm(block.out)))
    return nn.Sequential(parts)
