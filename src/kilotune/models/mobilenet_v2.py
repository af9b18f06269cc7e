"""MobileNetV2 (Sandler et al. 2018) under torchvision's names, at any width."""

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from kilotune.errors import ModelError
from kilotune.models.inverted import Architecture, Block, InvertedResidual
from kilotune.models.layers import Layers, Padding, initialise

Head = Literal["full", "mix", "nohead"]


class Stage(NamedTuple):
    """A row of table 2 of the paper: expansion t, channels c at width 1, repeats n, stride s of the first block."""

    expansion: int
    channels: int
    repeats: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)

# Channels of the last 1x1 convolution. full: torchvision and Keras, never narrower than 1280. mix: scaled with the
# width (TraDy, MeDyate). nohead: none, the classifier reads the last block (256 KB training, mcunet).
HEADS: dict[Head, Callable[[float], int | None]] = {
    "full": lambda width: divisible(1280 * max(1.0, width)),
    "mix": lambda width: divisible(1280 * width),
    "nohead": lambda width: None,
}

# Torchvision uses 1e-5; Keras, where SAME padding comes from, 1e-3.
EPSILON: dict[Padding, float] = {"symmetric": 1e-5, "tf_same": 1e-3}

PUBLISHED_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_NAME = re.compile(r"mobilenet_v2(?:_w(\d+(?:\.\d+)?))?(?:_(mix|nohead))?(_same)?")


def divisible(channels: float, divisor: int = 8) -> int:
    """``channels`` rounded to a multiple of ``divisor``, never down by more than a tenth.

    >>> [divisible(width * 16) for width in (0.35, 0.5, 1.0)]
    [8, 8, 16]
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def architecture(width: float = 1.0, head: Head = "full", padding: Padding = "symmetric") -> Architecture:
    """MobileNetV2 at ``width`` as a table of blocks."""
    stem = channels = divisible(32 * width)
    blocks = []
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(Block(3, stride, channels * stage.expansion, divisible(stage.channels * width)))
            channels = blocks[-1].out
    return Architecture(stem, tuple(blocks), HEADS[head](width), padding, EPSILON[padding])


class MobileNetV2(nn.Module):
    """``(n,3,h,w) -> (n,classes)``; state dict as in torchvision."""

    def __init__(self, architecture: Architecture, classes: int, dropout: float, folded: bool):
        super().__init__()
        self.architecture = architecture
        make = Layers(architecture.padding, architecture.epsilon, folded)
        units: list[nn.Module] = [_unit(make, 3, architecture.stem, 3, 2)]
        units += [
            InvertedResidual("conv", _body(make, c, block), block.is_residual(c)) for c, block in architecture.steps
        ]
        if architecture.mix:
            units.append(_unit(make, architecture.blocks[-1].out, architecture.mix))
        self.features = nn.Sequential(*units)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout) if dropout else nn.Identity(), nn.Linear(architecture.features, classes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, h, w)."""
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


def mobilenet_v2(
    width: float = 1.0,
    head: Head = "full",
    padding: Padding = "symmetric",
    dropout: float = 0.2,
    classes: int = 1000,
    folded: bool = False,
) -> MobileNetV2:
    """MobileNetV2 with random weights.

    width: multiplies all channels. head: the last 1x1 convolution, a key of ``HEADS``. padding: "symmetric" as in
    PyTorch or "tf_same" as in Keras. folded: convolutions with a bias instead of batch norms.
    """
    return MobileNetV2(architecture(width, head, padding), classes, dropout, folded)


def parse_name(name: str) -> dict[str, Any] | None:
    """Arguments of ``mobilenet_v2`` meant by ``mobilenet_v2[_w<width>][_mix|_nohead][_same]``, None for any other name.

    Only torchvision's own network has dropout. Raises ModelError if the width is zero.

    >>> parse_name("mobilenet_v2_w0.35_mix")
    {'width': 0.35, 'head': 'mix', 'padding': 'symmetric', 'dropout': 0.0}
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    width, head, same = float(match[1] or 1), match[2] or "full", "tf_same" if match[3] else "symmetric"
    if width == 0:
        raise ModelError(f"{name!r} asks for width 0; write for instance mobilenet_v2_w0.35")
    return {"width": width, "head": head, "padding": same, "dropout": 0.0 if match[2] or match[3] else 0.2}


def published_names() -> Iterator[str]:
    """The names at the widths for which somebody published weights."""
    for width, head, same in product(PUBLISHED_WIDTHS, ("", "_mix", "_nohead"), ("", "_same")):
        yield f"mobilenet_v2{'' if width == 1 else f'_w{width}'}{head}{same}"


def _unit(make: Layers, c: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(make.conv(c, o, kernel, stride, groups), make.norm(o), nn.ReLU6(inplace=True))


def _body(make: Layers, c: int, block: Block) -> nn.Sequential:
    expansion = [_unit(make, c, block.mid)] if block.expands(c) else []
    depthwise = _unit(make, block.mid, block.mid, block.kernel, block.stride, block.mid)
    return nn.Sequential(*expansion, depthwise, make.conv(block.mid, block.out), make.norm(block.out))
