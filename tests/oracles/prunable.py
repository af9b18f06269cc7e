"""A user's own small network with all that ties layers together: a sum, squeeze-excite, depthwise and grouped layers."""

import torch
from torch import Tensor, nn

from tests.oracles.networks import randomise

# Layers whose output channels shrink together, the first of which gives the group its name, and how many they are.
GROUPS = {("stem", "project"): 8, ("expand", "depthwise", "excite"): 16, ("squeeze",): 4, ("mix",): 12, ("grouped",): 6}


class Prunable(nn.Module):
    """``(n, 3, h, w) -> (n, 5)``."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.expand, self.expand_norm = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.depthwise_norm = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.project, self.project_norm = nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(8, 12, 1)
        self.grouped = nn.Conv2d(12, 6, 3, groups=2)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).relu()
        y = nn.functional.relu6(self.expand_norm(self.expand(x)))
        y = nn.functional.relu6(self.depthwise_norm(self.depthwise(y)))
        gate = self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        x = x + self.project_norm(self.project(y * gate))
        x = self.grouped(self.mix(x).relu()).relu()
        return self.classifier(x.mean((2, 3)))


def prunable() -> nn.Module:
    """The network with random weights and statistics, in float64, in evaluation mode."""
    return randomise(Prunable().double().eval())


EXAMPLE = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
