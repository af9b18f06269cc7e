"""The C runtime compiled once per session; networks that become C projects in a moment."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from kilotune.codegen import host
from kilotune.codegen.host import PROBE, HostProject, link
from kilotune.codegen.project import RUNTIME, write_sources
from kilotune.deploy.verify import Case
from tests.objects import Objects

# Vectors as on the user's machine, but compiled in half the time.
FLAGS = ("-O2", "-march=native", *PROBE)
COMPILED = (*host.FLAGS, *FLAGS, "-fPIC")

Build = Callable[..., HostProject]


class SqueezeNet(nn.Module):
    """What users write: residual sums, squeeze-excite, a strided branch, pooling, concatenation, dropout."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(16, 12, 3, stride=2, padding=1), nn.LeakyReLU(0.1))
        self.shortcut = nn.Conv2d(16, 12, 1, stride=2, bias=False)
        self.body = nn.Sequential(nn.Conv2d(12, 10, 1), nn.ReLU6(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(40, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.depth(x)
        weights = torch.nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + y * weights
        x = torch.cat([x, self.branch(x)], 1)
        return self.head(self.body(self.down(x) + self.shortcut(x)))


class BlockNet(nn.Module):
    """What users write that can be streamed: a stem, separable convolutions, inverted residuals with and without a sum, and
    squeeze-excite behind one of them."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.first = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1, groups=6), nn.ReLU6(), nn.Conv2d(6, 5, 1))
        self.second = nn.Sequential(*_inverted(5, 30, 10, 5, 2))
        self.third = nn.Sequential(*_inverted(10, 25, 10, 3, 1))
        self.fourth = nn.Sequential(*_inverted(10, 30, 10, 3, 1))
        self.squeeze, self.excite = nn.Conv2d(10, 4, 1), nn.Conv2d(4, 10, 1)
        self.separable = nn.Sequential(
            nn.Conv2d(10, 10, 3, 2, 1, groups=10), nn.ReLU(), nn.Conv2d(10, 14, 1), nn.ReLU()
        )
        self.head = nn.Linear(14, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(self.stem(x)))
        x = x + self.third(x)
        x = x + self.fourth(x)
        x = x * nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(self.separable(x).mean((2, 3)))


def _inverted(c: int, mid: int, o: int, kernel: int, stride: int) -> list[nn.Module]:
    depthwise = nn.Conv2d(mid, mid, kernel, stride, kernel // 2, groups=mid, bias=False)
    first, last = (nn.Conv2d(a, b, 1, bias=False) for a, b in ((c, mid), (mid, o)))
    norms = [nn.BatchNorm2d(n) for n in (mid, mid, o)]
    return [first, norms[0], nn.ReLU(), depthwise, norms[1], nn.ReLU6(), last, norms[2]]


class TinyVit(nn.Module):
    """Patches, a class token, positions, an encoder of two blocks whose norms come first, and a head on the class token."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 12)), nn.Parameter(torch.randn(1, 17, 12))
        layer = nn.TransformerEncoderLayer(12, 2, 24, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12), enable_nested_tensor=False)
        self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.encoder(tokens)[:, 0])


class Windows(nn.Module):
    """Attention in windows that are shifted, with a bias of relative positions: what Swin is made of."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
        self.qkv, self.proj, self.bias = nn.Linear(8, 24), nn.Linear(8, 8), nn.Parameter(torch.randn(2, 16, 16))
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU("tanh"), nn.Linear(16, 8))
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        y = self.norm(x).roll((-1, -2), (1, 2))
        y = y.view(-1, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
        q, k, v = self.qkv(y).view(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * 0.5) @ k.transpose(-2, -1) + self.bias
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        y = y.view(-1, 2, 2, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 8).roll((1, 2), (1, 2))
        x = x + y
        return self.head((x + self.mlp(x)).mean((1, 2)))


@pytest.fixture(scope="session")
def runtime_objects(objects: Objects) -> list[Path]:
    """Object files of the runtime."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return objects(sorted((RUNTIME / "src").glob("*.c")), RUNTIME / "include", "gcc", *COMPILED)


@pytest.fixture
def build(objects: Objects, runtime_objects: list[Path], tmp_path: Path) -> Build:
    """A case as a library that shows every value."""

    numbers = count()

    def make(case: Case, store_bytes: int = 0) -> HostProject:
        folder = tmp_path / str(next(numbers))
        write_sources(case.program, folder / "project", "a network", "a plan", case.reference.learning_rate)
        sources = folder / "project" / "src"
        own = objects([sources / "kt_project.c", sources / "kt_weights.c"], sources, "gcc", *COMPILED)
        (folder / "build").mkdir()
        library = link([*runtime_objects, *own], folder / "build", FLAGS)
        return HostProject.of(library, case.program, store_bytes)

    return make
