"""The demo's images: scikit-learn's handwritten digits as they are, and behind a domain shift."""

import numpy as np
import torch
from PIL import Image

from kilotune.data.images import Dataset, Split
from kilotune.errors import DataError
from kilotune.rng import Pcg32

SIDE = 32
N_PRETRAIN, N_TUNE = 600, 798
_INK_LEVELS = 16
# Fixed, not a choice: the committed checkpoint has seen the first N_PRETRAIN images of this very order.
_SEED, _ORDER_STREAM, _PATCH_STREAM = 0, 0, 1


def read_digits() -> Dataset:
    """White digits on black: images ``(n, 3, 32, 32)``; train holds the 600 that ``digitnet`` was pretrained on.

    test holds the 399 images of ``read_digits_shifted().test``, unshifted. Raises DataError without scikit-learn.
    """
    ink, labels, _ = _read()
    return _dataset("digits", ink[:, None].repeat(3, axis=1), labels, slice(0, N_PRETRAIN))


def read_digits_shifted() -> Dataset:
    """The digits blended into colour photographs: 798 images to tune on, none of them seen in pretraining, 399 to test.

    ``|photo - digit|`` per pixel and channel, the shift from MNIST to MNIST-M (Ganin and Lempitsky 2015), here
    with random patches of scikit-learn's two sample photographs. Raises DataError without scikit-learn.
    """
    ink, labels, photos = _read()
    rng = Pcg32(_SEED, _PATCH_STREAM)
    patches = np.stack([_patch(photos, rng) for _ in ink]).transpose(0, 3, 1, 2)
    blended = np.abs(patches.astype(np.int16) - ink[:, None]).astype(np.uint8)
    return _dataset("digits_shifted", blended, labels, slice(N_PRETRAIN, N_PRETRAIN + N_TUNE))


def _dataset(name: str, images: np.ndarray, labels: np.ndarray, train: slice) -> Dataset:
    everything = Split(torch.from_numpy(images), torch.from_numpy(labels))
    order = torch.tensor(Pcg32(_SEED, _ORDER_STREAM).shuffled(len(everything)))
    test = order[N_PRETRAIN + N_TUNE :]
    return Dataset(name, everything.select(order[train]), everything.select(test), tuple("0123456789"))


def _read() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Digits ``(n, h, w)`` uint8 at 32x32, labels ``(n,)`` int64, photographs ``(h, w, c)`` uint8."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise DataError("the digits come with scikit-learn, which is missing; pip install 'kilotune[demo]'") from error
    digits = load_digits()
    levels = (digits.images * (255 / _INK_LEVELS)).round().astype(np.uint8)
    enlarged = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in levels]
    return (
        np.stack([np.asarray(image) for image in enlarged]),
        digits.target.astype(np.int64),
        load_sample_images().images,
    )


def _patch(photos: list[np.ndarray], rng: Pcg32) -> np.ndarray:
    photo = photos[rng.below(len(photos))]
    top, left = (rng.below(length - SIDE + 1) for length in photo.shape[:2])
    return photo[top : top + SIDE, left : left + SIDE]
