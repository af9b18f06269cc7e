"""MCUNet (Lin et al. 2020): the searched networks for ImageNet, under MIT HAN Lab's names."""

from kilotune.models.inverted import Architecture, Block
from kilotune.models.proxylessnas import ProxylessNet

ARCHITECTURES = {
    "in1": Architecture(
        stem=16,
        blocks=(
            Block(3, 1, 16, 8),
            Block(3, 2, 32, 16),
            Block(3, 1, 48, 16),
            Block(7, 2, 48, 24),
            Block(3, 1, 120, 24),
            Block(3, 2, 120, 40),
            Block(7, 1, 160, 40),
            Block(5, 1, 160, 48),
            Block(3, 1, 144, 48),
            Block(3, 1, 192, 48),
            Block(7, 2, 240, 96),
            Block(5, 1, 384, 96),
            Block(5, 1, 384, 96),
            Block(3, 1, 576, 160),
        ),
    ),
    "in2": Architecture(
        stem=16,
        blocks=(
            Block(3, 1, 16, 8),
            Block(5, 2, 24, 16),
            Block(7, 1, 96, 16),
            Block(3, 1, 80, 16),
            Block(5, 1, 80, 16),
            Block(3, 2, 80, 24),
            Block(7, 1, 144, 24),
            Block(5, 1, 144, 24),
            Block(7, 2, 96, 40),
            Block(5, 1, 200, 40),
            Block(3, 1, 200, 48),
            Block(5, 1, 240, 48),
            Block(3, 1, 192, 48),
            Block(5, 2, 288, 96),
            Block(5, 1, 384, 96),
            Block(5, 1, 288, 96),
            Block(3, 1, 384, 96),
            Block(5, 1, 480, 160),
        ),
    ),
    "in3": Architecture(
        stem=16,
        blocks=(
            Block(3, 1, 16, 8),
            Block(7, 2, 24, 16),
            Block(3, 1, 80, 16),
            Block(7, 1, 80, 16),
            Block(5, 1, 64, 16),
            Block(5, 2, 80, 24),
            Block(5, 1, 120, 24),
            Block(5, 1, 120, 24),
            Block(3, 2, 120, 40),
            Block(7, 1, 240, 40),
            Block(5, 1, 160, 40),
            Block(5, 1, 200, 48),
            Block(7, 1, 240, 48),
            Block(3, 1, 240, 48),
            Block(3, 2, 288, 96),
            Block(7, 1, 480, 96),
            Block(3, 1, 384, 96),
            Block(7, 1, 480, 160),
        ),
    ),
    "in4": Architecture(
        stem=32,
        blocks=(
            Block(3, 1, 32, 16),
            Block(7, 2, 48, 24),
            Block(3, 1, 120, 24),
            Block(5, 1, 96, 24),
            Block(7, 2, 120, 40),
            Block(3, 1, 160, 40),
            Block(7, 1, 160, 40),
            Block(7, 2, 120, 80),
            Block(3, 1, 240, 80),
            Block(7, 1, 240, 80),
            Block(3, 1, 320, 96),
            Block(5, 1, 288, 96),
            Block(5, 1, 288, 96),
            Block(7, 2, 384, 192),
            Block(7, 1, 576, 192),
            Block(5, 1, 576, 192),
            Block(5, 1, 768, 320),
        ),
    ),
}


def mcunet(variant: str, classes: int = 1000, folded: bool = False) -> ProxylessNet:
    """MCUNet with random weights.

    variant: a key of ``ARCHITECTURES``; in1 is also called 5fps, in2 256kb-1mb, in3 320kb-1mb, in4 512kb-2mb.
    folded: convolutions with a bias instead of batch norms.
    """
    return ProxylessNet(ARCHITECTURES[variant], classes, folded)
