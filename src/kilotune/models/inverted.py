"""Networks of inverted residuals as tables: what MobileNetV2, MCUNet and ProxylessNAS have in common."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from kilotune.models.layers import Padding


class Block(NamedTuple):
    """An inverted residual (Sandler et al. 2018): 1x1 expansion to ``mid``, depthwise convolution, 1x1 to ``out``.

    There is no expansion where ``mid`` is the number of input channels, and a shortcut where nothing changes shape.
    """

    kernel: int
    stride: int
    mid: int
    out: int

    def expands(self, channels: int) -> bool:
        """Whether the block has a 1x1 expansion in front of it, for ``channels`` input channels."""
        return self.mid != channels

    def is_residual(self, channels: int) -> bool:
        """Whether the input is added to the output, for ``channels`` input channels."""
        return self.stride == 1 and self.out == channels


@dataclass(frozen=True)
class Architecture:
    """A 3x3 stride-2 stem, blocks, an optional last 1x1 convolution, global mean, linear classifier; ReLU6 throughout.

    stem: its output channels. mix: output channels of the last 1x1 convolution (feature mix), None where there is none.
    epsilon: that of the batch norms; it does not tell two architectures apart, since a checkpoint may bring its own.
    """

    stem: int
    blocks: tuple[Block, ...]
    mix: int | None = None
    padding: Padding = "symmetric"
    epsilon: float = field(default=1e-5, compare=False)

    @property
    def features(self) -> int:
        """Inputs of the classifier."""
        return self.mix or self.blocks[-1].out

    @property
    def steps(self) -> list[tuple[int, Block]]:
        """Every block with the number of its input channels."""
        outputs = [self.stem, *(block.out for block in self.blocks)]
        return [(c, block) for (c, _), block in zip(pairwise(outputs), self.blocks, strict=True)]

    def differences(self, wanted: "Architecture") -> list[str]:
        """What keeps this network from being ``wanted``, in words; empty if nothing does."""
        found = [
            f"{what} is {ours}, not {theirs}"
            for what, ours, theirs in (
                ("padding", self.padding, wanted.padding),
                ("the stem's width", self.stem, wanted.stem),
                ("the last 1x1 convolution", self.mix or "absent", wanted.mix or "absent"),
                ("the number of blocks", len(self.blocks), len(wanted.blocks)),
            )
            if ours != theirs
        ]
        differing = [i for i, (a, b) in enumerate(zip(self.blocks, wanted.blocks, strict=False)) if a != b]
        return found + ([f"block {differing[0]} and {len(differing) - 1} more differ"] if differing else [])


class InvertedResidual(nn.Module):
    """``(n,c,h,w) -> (n,o,h/s,w/s)``: a body, with or without a shortcut around it, called ``name`` in checkpoints."""

    def __init__(self, name: str, body: nn.Module, is_residual: bool):
        super().__init__()
        self.add_module(name, body)
        self._name = name
        self.is_residual = is_residual

    def forward(self, x: Tensor) -> Tensor:
        """``body(x)``, plus ``x`` where there is a shortcut."""
        y = getattr(self, self._name)(x)
        return x + y if self.is_residual else y
