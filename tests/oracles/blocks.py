"""Random networks of inverted residual blocks, in which every block can be streamed."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from tests.oracles.networks import randomise


@dataclass(frozen=True)
class BlockShape:
    """An inverted residual block; expansion 0: no head, the depthwise convolution reads the source."""

    expansion: int
    kernel: int
    stride: int
    out: int
    act: type[nn.Module]


shapes = st.builds(
    BlockShape,
    st.sampled_from((0, 1, 2, 5)),
    st.sampled_from((3, 5, 7)),
    st.sampled_from((1, 2)),
    st.integers(2, 5),
    st.sampled_from((nn.ReLU, nn.ReLU6)),
)


class BlockNet(nn.Module):
    """A stem, blocks with a sum wherever shapes allow, a head."""

    def __init__(self, blocks: list[BlockShape], classes: int = 4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU6())
        self.blocks, self.sums, channels = nn.ModuleList(), [], 4
        for shape in blocks:
            mid = max(2, channels * shape.expansion) if shape.expansion else channels
            head = [nn.Conv2d(channels, mid, 1), shape.act()] if shape.expansion else []
            depthwise = nn.Conv2d(mid, mid, shape.kernel, shape.stride, shape.kernel // 2, groups=mid)
            self.blocks.append(nn.Sequential(*head, depthwise, shape.act(), nn.Conv2d(mid, shape.out, 1)))
            self.sums.append(shape.stride == 1 and channels == shape.out)
            channels = shape.out
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, is_sum in zip(self.blocks, self.sums, strict=True):
            x = x + block(x) if is_sum else block(x)
        return self.head(x.mean((2, 3)))


def captured_blocks(blocks: list[BlockShape], size: tuple[int, int] = (13, 10)) -> Graph:
    """A captured network of blocks for images of ``size``."""
    return capture(randomise(BlockNet(blocks)).eval(), torch.zeros(1, 3, *size))
