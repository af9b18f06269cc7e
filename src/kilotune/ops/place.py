"""Where an input is kept: the layer, the trained slice that will read it, and what it holds from step to step."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kilotune.graph.backward import Compressed
from kilotune.graph.low_rank import Asi
from kilotune.graph.node import Conv2d, Linear
from kilotune.graph.way import Way
from kilotune.ops.keep import cut_channels
from kilotune.ops.live import live_grad
from kilotune.ops.slices import Slice


@dataclass
class Memory:
    """What a layer's way of keeping holds from step to step.

    factors: by mode, (d, r); cut: rows of the channels' factor for the channels drawn, orthonormal.
    noise: uniform numbers on [0, 1) in the shape of a tensor, for what rounds at random.
    seen: forward passes so far; capped: those in which the data asked for more than the cap.
    """

    way: Way
    factors: dict[int, Tensor] = field(default_factory=dict)
    cut: Tensor | None = None
    noise: Callable[[Tensor], Tensor] = torch.rand_like
    seen: int = 0
    capped: int = 0

    def redrawn(self, channel_axis: int) -> None:
        """Other channels from now on: what was made for those before goes."""
        self.cut = None
        if isinstance(self.way, Asi):
            self.factors.pop(channel_axis, None)


@dataclass(frozen=True)
class Place:
    """One layer's input on its way to the weight gradient of ``slice``."""

    op: Conv2d | Linear
    slice: Slice
    compressed: Compressed
    memory: Memory

    @property
    def way(self) -> Way:
        """How it is kept."""
        return self.compressed.way

    @property
    def channel_axis(self) -> int:
        """Axis of the input that holds the channels."""
        return self.compressed.modes.channel_axis

    @property
    def batch_axis(self) -> int:
        """Axis of the input that grows with the batch."""
        return self.compressed.modes.batch_axis

    def samples(self, x: Tensor) -> int:
        """Samples at work in an input, or in the gradient of an output."""
        return x.shape[self.batch_axis] // self.compressed.modes.sizes[self.batch_axis]

    @property
    def sliced(self) -> bool:
        """Whether only some channels are kept."""
        return self.compressed.channels < self.compressed.modes.channels

    def cut(self, x: Tensor) -> Tensor:
        """The channels of the input that are kept."""
        return cut_channels(x, self.channel_axis, self.slice.index) if self.sliced else x

    def live_grad(self, x: Tensor, dy: Tensor, op: Conv2d | Linear | None = None) -> Tensor:
        """Gradient of the slice, channel-major, from what ``cut`` gave and dL/dy."""
        return live_grad(op or self.op, self.slice, x, dy, self.sliced)
