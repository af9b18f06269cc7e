"""The layers that every network of the zoo is made of, with or without batch norm."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["symmetric", "tf_same"]


class Conv2dSame(nn.Conv2d):
    """Convolution ``(n,c,h,w) -> (n,o,ceil(h/s),ceil(w/s))`` with TensorFlow's SAME padding.

    An odd number of zeros puts one more at the right and at the bottom.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of ``input`` (n, c, h, w) behind asymmetric zero padding."""
        height, width = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(input.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        return super().forward(F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2)))


@dataclass(frozen=True)
class Layers:
    """Makes the convolutions and batch norms of one network.

    folded: convolutions have a bias and batch norms are absent, as in a checkpoint whose batch norms were folded.
    """

    padding: Padding = "symmetric"
    epsilon: float = 1e-5
    folded: bool = False

    def conv(self, c: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """A convolution c -> o that keeps ceil(h / stride), for an odd kernel."""
        if self.padding == "tf_same" and stride > 1:
            return Conv2dSame(c, o, kernel, stride, groups=groups, bias=self.folded)
        return nn.Conv2d(c, o, kernel, stride, kernel // 2, groups=groups, bias=self.folded)

    def norm(self, o: int) -> nn.Module:
        """The batch norm behind a convolution; nothing in a folded network."""
        return nn.Identity() if self.folded else nn.BatchNorm2d(o, eps=self.epsilon)


def initialise(model: nn.Module) -> None:
    """Random weights as in torchvision: He (2015) by fan-out for convolutions, N(0, 0.01) for the classifier."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
