"""A data set in one ``.npz`` file."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kilotune.data.images import Dataset, Split
from kilotune.errors import DataError

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_CHANNELS = (1, 3)


def read_npz(path: Path) -> Dataset:
    """The data set in ``path``: ``x_train, x_test``, integer ``y_train, y_test``.

    Images are uint8, ``(n, h, w, c)`` or ``(n, c, h, w)`` with c = 1 or 3, or ``(n, h, w)``, which is c = 1. Texts are
    integers of another format, ``(n, t)``, padded to one length.
    Raises DataError if the file is damaged, an array is missing or of another kind, or a class below the highest has
    no training image (labels count from 0).
    """
    arrays = _load(path)
    train, test = (_split(path, part, arrays) for part in ("train", "test"))
    n_classes = int(train.labels.max()) + 1
    missing = sorted(set(range(min(n_classes, len(train) + 1))) - set(train.labels.tolist()))
    if missing:
        raise DataError(
            f"{path}: y_train goes up to {n_classes - 1} but has no {missing[0]}; labels must be 0, 1, 2 ... gapless"
        )
    return Dataset(str(path), train, test, tuple(str(i) for i in range(n_classes)))


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise DataError(f"cannot read {path}: it is no .npz archive; write it with numpy.savez and plain arrays")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file.files]
            if missing:
                raise DataError(f"{path} has arrays {', '.join(file.files) or 'none'}; {', '.join(missing)} missing")
            return {key: file[key] for key in _KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}; write it with numpy.savez and plain arrays") from error


def _split(path: Path, part: str, arrays: dict[str, np.ndarray]) -> Split:
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    is_text = images.ndim == 2 and images.dtype.kind in "iu" and images.dtype != np.uint8
    if images.dtype != np.uint8 and not is_text:
        raise DataError(
            f"{path}: x_{part} is {images.dtype} {images.shape}; images must be uint8, 0..255, and texts integers (n, t)"
        )
    n_images = images.shape[0] if images.ndim else 0
    if not n_images or labels.dtype.kind not in "iu" or labels.shape not in ((n_images,), (n_images, 1)):
        raise DataError(
            f"{path}: y_{part} is {labels.dtype} {labels.shape} for x_{part} {images.shape}; "
            "labels must be integers, one per image, and at least one"
        )
    if labels.min() < 0:
        raise DataError(f"{path}: y_{part} has the label {labels.min()}; labels must be 0, 1, 2 ...")
    if is_text and images.min() < 0:
        raise DataError(f"{path}: x_{part} has the token id {images.min()}; ids count from 0")
    examples = torch.from_numpy(images.astype(np.int64)) if is_text else _channels_first(path, part, images)
    return Split(examples, torch.from_numpy(labels.reshape(-1).astype(np.int64)))


def _channels_first(path: Path, part: str, images: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(images)
    if images.ndim == 3:
        return tensor[:, None].contiguous()
    first, last = (images.ndim == 4 and images.shape[axis] in _CHANNELS for axis in (1, 3))
    if first == last:
        raise DataError(
            f"{path}: x_{part} has shape {images.shape}; it must be (n, h, w, c) or (n, c, h, w) with c = 1 or 3, "
            "and it must be plain which"
        )
    return tensor if first else tensor.permute(0, 3, 1, 2).contiguous()
