"""The network a command talks about, under the name the user gave it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kilotune.data.images import Dataset
    from kilotune.graph.node import Graph
    from kilotune.models import Loaded

# Input size of the papers, taken where the weights do not say theirs.
PAPER_SIDE = 128


@dataclass(frozen=True)
class Network:
    """A model with its weights, called as the user called it."""

    name: str
    loaded: "Loaded"

    @classmethod
    def load(cls, name: str, weights: str | None, classes: int | None, seed: int = 0) -> "Network":
        """See ``models.load`` for the arguments and errors."""
        from kilotune import models

        return cls(name, models.load(name, weights, classes, seed))

    @property
    def side(self) -> int:
        """Height and width of the inputs its weights were trained with, 128 where that is unknown."""
        return self.loaded.resolution or PAPER_SIDE

    def side_for(self, dataset: "Dataset") -> int:
        """Height and width of inputs for a data set: ``side``, or where the user's own model has none, the data's own.

        The images of a folder have no size of their own.
        """
        if self.loaded.resolution or ":" not in self.name or Path(dataset.name).is_dir():
            return self.side
        return max(dataset.train.images.shape[2:])

    def shape_for(self, dataset: "Dataset") -> tuple[int, ...]:
        """Shape of inputs for a data set: texts have their own, images ``side_for``."""
        if dataset.train.is_text:
            return tuple(dataset.train.images.shape[1:])
        side = self.side_for(dataset)
        return (dataset.train.images.shape[1], side, side)

    def capture(self, shape: tuple[int, ...]) -> "Graph":
        """The network for inputs (c, h, w), or (t,) for token ids; raises as ``graph.capture`` does."""
        from kilotune.graph.capture import capture, example_of

        return capture(self.loaded.model, example_of(shape), self.name)

    def examples(self, graph: "Graph", dataset: "Dataset | None", n: int, seed: int) -> tuple["Tensor", "Tensor"]:
        """All training examples of a data set as the network takes them, with labels; without one ``n`` of random numbers."""
        from kilotune.data.augment import Augment
        from kilotune.report.case import random_batch

        if dataset is None:
            return random_batch(graph, n, seed)
        if dataset.train.is_text:
            return dataset.train.images, dataset.train.labels
        height, width = graph.input.shape[2:]
        pixels = Augment((height, width), mean=(self.loaded.mean,), std=(self.loaded.std,))
        return pixels.evaluate(dataset.train.images), dataset.train.labels


def shape_text(shape: tuple[int, ...]) -> str:
    """``(3, 64, 64)`` -> ``"3x64x64"``, ``(128,)`` -> ``"128 tokens"``."""
    return f"{shape[0]} tokens" if len(shape) == 1 else "x".join(map(str, shape))
