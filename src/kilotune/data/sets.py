"""The data sets known by name, and how any other is found."""

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from kilotune.data import cifar
from kilotune.data.decode import decode_all, decode_file, decode_tiles
from kilotune.data.digits import read_digits, read_digits_shifted
from kilotune.data.folder import read_folder
from kilotune.data.images import Dataset, Progress, Split, split_by_seed
from kilotune.data.npz import read_npz
from kilotune.errors import DataError

FOLDER_SIDE = 160
_VWW_SIDE, _VWW_TILES, _VWW_TEST_SHARE = 96, 100, 0.2


def data_root() -> Path:
    """Where data sets are looked for: ``$KILOTUNE_DATA``, or else ``~/.cache/kilotune``."""
    return Path(os.environ.get("KILOTUNE_DATA") or Path.home() / ".cache" / "kilotune")


def load(
    name: str | Path,
    size: int | None = None,
    seed: int = 0,
    train_limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """The data set called ``name`` (see DATASETS), or the image folder or ``.npz`` file at that path.

    size: side, in pixels, at which the images of a folder are kept (160 if None); other sets keep their own.
    seed: decides the split of a set that comes without one, and which ``train_limit`` images are taken, balanced.
    progress: called while a folder is read, with (images done, images in all).
    Raises DataError if there is no such data, or it is damaged.
    """
    side = FOLDER_SIDE if size is None else size
    if side < 1:
        raise DataError(f"size {size} is impossible; give the side of the images in pixels, at least 1")
    dataset = _read(str(name), side, seed, train_limit, progress)
    if train_limit is None:
        return dataset
    return replace(dataset, train=dataset.train.take(train_limit, seed))


def _read(name: str, side: int, seed: int, train_limit: int | None, progress: Progress | None) -> Dataset:
    if name in DATASETS:
        return _read_known(name, seed)
    path = Path(name).expanduser()
    if path.is_dir():
        return read_folder(path, side, seed, train_limit, progress)
    if path.is_file() and path.suffix == ".npz":
        return read_npz(path)
    raise DataError(
        f"{name!r} is neither a known data set ({', '.join(DATASETS)}) nor an image folder nor an .npz file"
    )


def _read_known(name: str, seed: int) -> Dataset:
    try:
        return DATASETS[name](data_root(), seed)
    except OSError as error:
        raise DataError(
            f"data set {name} is not in {data_root()}: {error.filename}: {error.strerror}; "
            "set KILOTUNE_DATA to the folder that has it, or fetch it"
        ) from error


def _cifar10(root: Path, seed: int) -> Dataset:
    if (root / "cifar10").is_dir():
        return cifar.read_mosaics("cifar10", root)
    return cifar.read_binary("cifar10", root, cifar.CIFAR10)


def _cifar100(root: Path, seed: int) -> Dataset:
    return cifar.read_binary("cifar100", root, cifar.CIFAR100)


class _FlowersIndex(msgspec.Struct):
    """File i lies at ``offsets[i]:offsets[i + 1]`` of ``images.bin`` and belongs to ``splits[split[i]]``."""

    side: int
    offsets: list[int]
    label: list[int]
    split: list[int]
    splits: list[str]
    class_names: list[str]


def _flowers102(root: Path, seed: int) -> Dataset:
    """Oxford Flowers-102 (Nilsback and Zisserman 2008), official splits: 1020 train, 1020 val, 6149 test."""
    index_path = root / "flowers102" / "index.json"
    try:
        index = msgspec.json.decode(index_path.read_bytes(), type=_FlowersIndex)
    except msgspec.MsgspecError as error:
        raise DataError(f"{index_path} is damaged: {error}") from error
    content = (root / "flowers102" / "images.bin").read_bytes()

    def decode(i: int):
        return decode_file(io.BytesIO(content[index.offsets[i] : index.offsets[i + 1]]), f"{i + 1} of {index_path}")

    images = torch.empty(len(index.label), 3, index.side, index.side, dtype=torch.uint8)
    decode_all(range(len(images)), decode, images)
    everything = Split(images, torch.tensor(index.label))
    of_split = torch.tensor(index.split)
    parts = {name: everything.select((of_split == i).nonzero().flatten()) for i, name in enumerate(index.splits)}
    return Dataset("flowers102", parts["train"], parts["test"], tuple(index.class_names), parts["val"])


def _vww96(root: Path, seed: int) -> Dataset:
    """Visual Wake Words, 1000 images, class i % 2 (Chowdhery et al. 2019; MLPerf Tiny).

    There is no official training split of these: ``seed`` draws 800 for training and 200 for testing, half of each
    with a person.
    """
    paths = [root / "vww96" / f"vww_{i}.jpg" for i in range(10)]
    tiles = torch.empty(len(paths), _VWW_TILES, 3, _VWW_SIDE, _VWW_SIDE, dtype=torch.uint8)
    images = decode_all(paths, lambda path: decode_tiles(path, _VWW_SIDE), tiles).flatten(0, 1)
    everything = Split(images, torch.arange(len(images)) % 2)
    train, test = split_by_seed(everything.labels, _VWW_TEST_SHARE, seed)
    return Dataset("vww96", everything.select(train), everything.select(test), ("no person", "person"))


DATASETS: dict[str, Callable[[Path, int], Dataset]] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "flowers102": _flowers102,
    "vww96": _vww96,
    "digits": lambda root, seed: read_digits(),
    "digits_shifted": lambda root, seed: read_digits_shifted(),
}
