"""What the emulated program is to do: the file of samples that it reads one at a time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilotune.errors import DataError
from kilotune.rng import Pcg32

_MAGIC = 0x3153544B
FILE = "session.bin"


@dataclass(frozen=True, eq=False)
class Session:
    """Samples to train on and to evaluate with, in the number format the project takes.

    train, test: images (n, ...). order: the training sample of each step. steps_per_update: samples summed before
    weights change. steps_per_draw: steps after which channels are drawn anew; 0: never.
    """

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    order: np.ndarray
    steps_per_update: int = 1
    steps_per_draw: int = 0

    def write(self, folder: Path) -> None:
        """Write ``session.bin``, the format of ``runtime/boards/kt_session.c``, little-endian."""
        sample_bytes = 4 + self.train[0].nbytes
        numbers = [_MAGIC, sample_bytes, len(self.train), len(self.test), len(self.order)]
        with (folder / FILE).open("wb") as file:
            file.write(np.array([*numbers, self.steps_per_update, self.steps_per_draw], "<u4").tobytes())
            file.write(self.order.astype("<u4").tobytes())
            for images, labels in ((self.train, self.train_labels), (self.test, self.test_labels)):
                for image, label in zip(images, labels, strict=True):
                    file.write(np.array(label, "<u4").tobytes() + np.ascontiguousarray(image).tobytes())


def check_labels(labels: np.ndarray, n_classes: int, what: str) -> None:
    """Raises DataError where a label is not one of the project's classes."""
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        raise DataError(
            f"{what} labels run from {labels.min()} to {labels.max()}, the project was exported for {n_classes} classes, "
            f"0 to {n_classes - 1}; export it for this data"
        )


def shuffled_order(n_samples: int, n_epochs: int, seed: int) -> np.ndarray:
    """The training sample of every step, a new order in each epoch (steps,)."""
    return np.array([place for epoch in range(n_epochs) for place in Pcg32(seed, epoch).shuffled(n_samples)])
