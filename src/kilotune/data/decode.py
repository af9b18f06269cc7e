"""Image files to uint8 tensors: Pillow, in threads, each file once."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from kilotune.data.images import Progress
from kilotune.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

Source = TypeVar("Source")
# What Pillow raises for a damaged file; which one depends on the format.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa", "RGBX")


def decode_all(
    sources: Iterable[Source], decode: Callable[[Source], np.ndarray], out: Tensor, progress: Progress | None = None
) -> Tensor:
    """``out`` ``(n, ...)`` filled with the decoded sources, by a thread per core (Pillow releases the GIL)."""
    filled = out.numpy()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, pixels in enumerate(pool.map(decode, sources)):
            filled[index] = pixels
            if progress is not None:
                progress(index + 1, len(out))
    return out


def decode_square(path: Path, side: int) -> np.ndarray:
    """Pixels ``(3, side, side)`` of the largest centred square of an image file, antialiased bilinear.

    That is a resize of the shorter side to ``side`` and a centre crop. Turned upright by its EXIF tag. Raises DataError
    naming the file if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            # JPEG only: the decoder may leave out the detail that goes lost anyway, down to twice the side.
            image.draft("RGB", (2 * side, 2 * side))
            upright = _rgb(ImageOps.exif_transpose(image))
            square = ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR)
            return np.asarray(square).transpose(2, 0, 1)
    except _DECODE_ERRORS as error:
        raise DataError(f"cannot read image {path}: {error}; repair or remove the file") from error


def decode_tiles(source: Path, side: int) -> np.ndarray:
    """Images ``(n, 3, side, side)`` of a mosaic, row by row. Raises DataError naming the file if it cannot be read."""
    pixels = _decode(source, str(source))
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    if pixels.shape != (rows * side, columns * side, 3):
        raise DataError(f"{source} is {pixels.shape[1]}x{pixels.shape[0]}, not a mosaic of {side}x{side} tiles")
    return pixels.reshape(rows, side, columns, side, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, side, side)


def decode_file(source: BinaryIO, name: str) -> np.ndarray:
    """Pixels ``(3, h, w)`` of one image. Raises DataError naming it ``name`` if it cannot be read."""
    return _decode(source, name).transpose(2, 0, 1)


def _decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    try:
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except _DECODE_ERRORS as error:
        raise DataError(f"cannot read image {name}: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode not in _EIGHT_BIT_MODES:
        raise ValueError(f"it has pixels of mode {image.mode}, more than 8 bit; convert it to 8-bit RGB")
    # A palette may hold transparency, which Pillow converts cleanly only by way of RGBA.
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")
