"""ResNet (He et al. 2016) under torchvision's names; the stride of a bottleneck is at its 3x3 convolution."""

from typing import NamedTuple

from torch import Tensor, nn

from kilotune.models.layers import Layers, initialise


class Conv(NamedTuple):
    """One convolution of a block: kernel, output channels relative to the stage's, whether it carries the stride."""

    kernel: int
    widen: int
    strides: bool


class Depth(NamedTuple):
    """A ResNet as data: the convolutions of its block and the number of blocks of each stage."""

    convs: tuple[Conv, ...]
    repeats: tuple[int, int, int, int]


_BASIC = (Conv(3, 1, True), Conv(3, 1, False))
_BOTTLENECK = (Conv(1, 1, False), Conv(3, 1, True), Conv(1, 4, False))

DEPTHS = {18: Depth(_BASIC, (2, 2, 2, 2)), 50: Depth(_BOTTLENECK, (3, 4, 6, 3))}


class ResidualBlock(nn.Module):
    """``(n,c,h,w) -> (n,o,h/s,w/s)``: relu(shortcut(x) + convolutions(x))."""

    def __init__(self, make: Layers, convs: tuple[Conv, ...], c: int, channels: int, stride: int):
        super().__init__()
        out = channels * convs[-1].widen
        self.n_convs = len(convs)
        self.downsample: nn.Module = nn.Identity()
        inputs = c
        for number, conv in enumerate(convs, 1):
            o = channels * conv.widen
            self.add_module(f"conv{number}", make.conv(inputs, o, conv.kernel, stride if conv.strides else 1))
            self.add_module(f"bn{number}", make.norm(o))
            inputs = o
        self.relu = nn.ReLU(inplace=True)
        if stride != 1 or c != out:
            self.downsample = nn.Sequential(make.conv(c, out, 1, stride), make.norm(out))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output (n, o, h, w)."""
        y = x
        for number in range(1, self.n_convs + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = self.relu(y) if number < self.n_convs else y
        return self.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """``(n,3,h,w) -> (n,classes)``; state dict as in torchvision."""

    def __init__(self, depth: Depth, classes: int, folded: bool):
        super().__init__()
        make = Layers(folded=folded)
        self.conv1, self.bn1 = make.conv(3, 64, 7, 2), make.norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = 64
        for stage, repeats in enumerate(depth.repeats):
            blocks = []
            for repeat in range(repeats):
                stride = 2 if stage and repeat == 0 else 1
                blocks.append(ResidualBlock(make, depth.convs, c, 64 * 2**stage, stride))
                c = 64 * 2**stage * depth.convs[-1].widen
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(c, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, h, w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet(depth: int, classes: int = 1000, folded: bool = False) -> ResNet:
    """ResNet with random weights.

    depth: a key of ``DEPTHS``. folded: convolutions with a bias instead of batch norms.
    """
    return ResNet(DEPTHS[depth], classes, folded)
