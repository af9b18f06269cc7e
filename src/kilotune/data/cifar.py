"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the official binary form, and CIFAR-10 as lossless mosaics."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kilotune.data.decode import decode_all, decode_tiles
from kilotune.data.images import Dataset, Split
from kilotune.errors import DataError

SIDE = 32
_N_PIXELS = 3 * SIDE * SIDE
_TILES_PER_FILE = 1000
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Layout:
    """A data set in CIFAR's binary form. A record is ``n_labels`` bytes, the last one the class, and 3072 pixels."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    class_names: str
    n_labels: int
    n_classes: int


CIFAR10 = Layout(
    "cifar-10-batches-bin",
    tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    ("test_batch.bin",),
    "batches.meta.txt",
    n_labels=1,
    n_classes=10,
)
CIFAR100 = Layout("cifar-100-binary", ("train.bin",), ("test.bin",), "fine_label_names.txt", n_labels=2, n_classes=100)


def read_binary(name: str, root: Path, layout: Layout) -> Dataset:
    """The data set below ``root``, 32x32. Raises DataError if a file is cut short or has impossible labels.

    The official python form holds pickles, which are never executed; it is not read.
    """
    folder = root / layout.folder
    classes = tuple((folder / layout.class_names).read_text().split())
    if len(classes) != layout.n_classes:
        raise DataError(f"{folder / layout.class_names} has {len(classes)} class names, not {layout.n_classes}")
    train = _read_records([folder / file for file in layout.train], layout)
    test = _read_records([folder / file for file in layout.test], layout)
    return Dataset(name, train, test, classes)


def read_mosaics(name: str, root: Path) -> Dataset:
    """CIFAR-10 from ``cifar10/{train,test}_00.webp`` on, 1000 images each, image i of a split having class i % 10."""
    return Dataset(name, _read_mosaics(root, "train", 50), _read_mosaics(root, "test", 10), CIFAR10_CLASSES)


def _read_mosaics(root: Path, part: str, n_files: int) -> Split:
    paths = [root / "cifar10" / f"{part}_{i:02d}.webp" for i in range(n_files)]
    tiles = torch.empty(n_files, _TILES_PER_FILE, 3, SIDE, SIDE, dtype=torch.uint8)
    decode_all(paths, lambda path: decode_tiles(path, SIDE), tiles)
    images = tiles.flatten(0, 1)
    return Split(images, torch.arange(len(images)) % len(CIFAR10_CLASSES))


def _read_records(paths: Sequence[Path], layout: Layout) -> Split:
    length = layout.n_labels + _N_PIXELS
    parts = []
    for path in paths:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        if not len(content) or len(content) % length:
            raise DataError(
                f"{path} has {len(content):,} bytes, not a multiple of {length}; it is cut short, fetch it again"
            )
        parts.append(content.reshape(-1, length))
    records = torch.from_numpy(np.concatenate(parts))
    images = records[:, layout.n_labels :].reshape(-1, 3, SIDE, SIDE).contiguous()
    return Split(images, records[:, layout.n_labels - 1].to(torch.int64))
