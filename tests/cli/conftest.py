"""A folder as a user has it: a network of their own, a small data set; and the command line, called in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from kilotune.cli.main import app

MODULE = """
import torch
from torch import nn

def make(classes=3):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 12, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes),
    )

def perceptron(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))

def inverted(classes=3):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4, 48, 1), nn.ReLU6(), nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.ReLU6(), nn.Conv2d(48, 4, 1),
        nn.Conv2d(4, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )

def wide(classes=3):
    convolutions = [nn.Conv2d(1, 4, 13, padding=6), nn.ReLU(), nn.Conv2d(4, 4, 13, padding=6)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, classes))

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.cumsum(torch.erfinv(self.conv(x)), 1).mean((2, 3)))

class Reader(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, classes)

    def forward(self, ids):
        return self.head(self.encoder(self.embed(ids)).mean(1))

def reader(classes=3):
    return Reader(classes)

def number():
    return 3
"""
MODEL = "cli_network:make"


@dataclass(frozen=True)
class Called:
    """What a call of the command line left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout as one JSON object; fails if there is anything else on it."""
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        assert self.stdout.count("\n") == 1
        return value


def call(*arguments: str) -> Called:
    """``kilotune arguments`` in this process."""
    result = CliRunner().invoke(app, list(arguments), prog_name="kilotune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Called(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def kilotune() -> Callable[..., Called]:
    """The command line as a function of its arguments."""
    return call


def write_npz(path: Path, n_classes: int = 3, side: int = 8) -> None:
    """48 training and 24 test images whose brightness tells the class."""
    draws = np.random.default_rng(0)
    arrays = {}
    for part, n_images in (("train", 48), ("test", 24)):
        labels = np.arange(n_images) % n_classes
        tops = 80 + 170 // n_classes * labels[:, None, None]
        arrays[f"y_{part}"] = labels
        arrays[f"x_{part}"] = draws.integers(0, tops, (n_images, side, side)).astype(np.uint8)
    np.savez(path, **arrays)


def write_texts(path: Path, n_classes: int = 3, length: int = 6, n_tokens: int = 20) -> None:
    """48 training and 24 test texts in which one token in two tells the class."""
    draws = np.random.default_rng(0)
    arrays = {}
    for part, n_texts in (("train", 48), ("test", 24)):
        labels = np.arange(n_texts) % n_classes
        texts = draws.integers(n_classes, n_tokens, (n_texts, length))
        arrays[f"y_{part}"] = labels
        arrays[f"x_{part}"] = np.where(np.arange(length) % 2, labels[:, None], texts)
    np.savez(path, **arrays)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``cli_network.py``, ``data.npz`` and ``texts.npz``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KILOTUNE_DATA", raising=False)
    Path("cli_network.py").write_text(MODULE)
    write_npz(Path("data.npz"))
    write_texts(Path("texts.npz"))
    return tmp_path
