"""A folder of images, one subfolder per class, as a data set."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kilotune.data.decode import SUFFIXES, decode_all, decode_square
from kilotune.data.images import Dataset, Progress, Split, balanced, split_by_seed
from kilotune.errors import DataError

TEST_SHARE = 0.2
_HELD_OUT_NAMES = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class _Files:
    """Image files and their labels ``(n,)``, before decoding."""

    paths: list[Path]
    labels: Tensor

    def select(self, indices: Tensor) -> "_Files":
        return _Files([self.paths[i] for i in indices.tolist()], self.labels[indices])


def read_folder(
    folder: Path, side: int, seed: int = 0, train_limit: int | None = None, progress: Progress | None = None
) -> Dataset:
    """Images of ``folder`` as uint8 ``(n, 3, side, side)``: shorter side resized to ``side``, cropped at the centre.

    ``folder`` holds ``train/`` with a subfolder per class, and ``val/`` or ``test/`` (or both); or else the classes
    themselves, of which a fifth of each, drawn by ``seed``, becomes the test split. At most ``train_limit`` training
    images are read. Raises DataError naming the class folder that has no image, or the image that cannot be read.
    """
    classes, files = _split_files(folder, seed)
    if train_limit is not None:
        files["train"] = files["train"].select(balanced(files["train"].labels, train_limit, seed))
    splits = _decode(files, side, progress)
    test = splits.pop("test")
    return Dataset(str(folder), splits["train"], test, classes, splits.get("val"))


def _split_files(folder: Path, seed: int) -> tuple[tuple[str, ...], dict[str, _Files]]:
    """Class names and the files of "train", "test" and, if there are both held-out folders, "val"."""
    held_out = [folder / name for name in _HELD_OUT_NAMES if (folder / name).is_dir()]
    if not (folder / "train").is_dir():
        classes = _class_names(folder)
        return classes, _drawn(folder, classes, seed)
    classes = _class_names(folder / "train")
    if not held_out:
        return classes, _drawn(folder / "train", classes, seed)
    files = {"train": _list_files(folder / "train", classes), "test": _list_files(held_out[-1], classes)}
    if len(held_out) > 1:
        files["val"] = _list_files(held_out[0], classes)
    return classes, files


def _drawn(folder: Path, classes: tuple[str, ...], seed: int) -> dict[str, _Files]:
    files = _list_files(folder, classes)
    lonely = [classes[i] for i in (files.labels.bincount() < 2).nonzero().flatten().tolist()]
    if lonely:
        raise DataError(
            f"{folder}: class {', '.join(lonely)} has a single image, too few for a training and a test split; "
            "add images, or make train/ and val/ folders yourself"
        )
    train, test = split_by_seed(files.labels, TEST_SHARE, seed)
    return {"train": files.select(train), "test": files.select(test)}


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _class_folders(folder))
    if len(names) < 2:
        raise DataError(
            f"{folder} has {len(names)} class folders; put the images of each class into a subfolder of its own, "
            "two classes at least"
        )
    return names


def _class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_files(folder: Path, classes: tuple[str, ...]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    for class_folder in _class_folders(folder):
        if class_folder.name not in classes:
            raise DataError(f"{class_folder} is no class of the training images, which are {', '.join(classes)}")
        found = sorted(path for path in class_folder.rglob("*") if _is_image(path))
        if not found:
            raise DataError(f"class folder {class_folder} has no image ({' '.join(SUFFIXES)}); fill or remove it")
        paths += found
        labels += [classes.index(class_folder.name)] * len(found)
    if not paths:
        raise DataError(f"{folder} has no class folders; it needs those of train/")
    return _Files(paths, torch.tensor(labels))


def _is_image(path: Path) -> bool:
    """By its name; names with a leading dot are what desktops leave beside images."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _decode(files: dict[str, _Files], side: int, progress: Progress | None) -> dict[str, Split]:
    """Every file once, all splits in one go so that progress counts them together."""
    paths = [path for part in files.values() for path in part.paths]
    images = torch.empty(len(paths), 3, side, side, dtype=torch.uint8)
    decode_all(paths, lambda path: decode_square(path, side), images, progress)
    parts = images.split([len(part.paths) for part in files.values()])
    return {name: Split(part, files[name].labels) for name, part in zip(files, parts, strict=True)}
