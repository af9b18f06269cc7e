"""The same numbers along other axes: what ``kt_copy_view`` is given."""

from collections.abc import Sequence

import numpy as np

from kilotune.errors import ExportError

MOST_AXES = 6


def strides(shape: Sequence[int]) -> list[int]:
    """Steps between neighbours along each axis of an array that lies row by row.

    >>> strides((2, 3, 4))
    [12, 4, 1]
    """
    return [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]


def broadcast_strides(shape: Sequence[int], to: Sequence[int]) -> list[int]:
    """Steps in an array of ``shape`` that is read as one of shape ``to``: 0 where it is repeated.

    >>> broadcast_strides((3, 1), (2, 3, 4))
    [0, 1, 0]
    """
    own = [0] * (len(to) - len(shape)) + strides(shape)
    sizes = [1] * (len(to) - len(shape)) + list(shape)
    return [0 if size == 1 else step for size, step in zip(sizes, own, strict=True)]


def view(sizes: Sequence[int], source: Sequence[int], target: Sequence[int]) -> np.ndarray:
    """Sizes, steps in the source, steps in the target, of six axes; neighbours that are one axis in both are joined.

    Raises ExportError for more axes than that.
    """
    rows: list[tuple[int, int, int]] = []
    for size, a, b in zip(sizes, source, target, strict=True):
        if size == 1:
            continue
        if rows and rows[-1][1] == size * a and rows[-1][2] == size * b:
            rows[-1] = (rows[-1][0] * size, a, b)
        else:
            rows.append((size, a, b))
    if len(rows) > MOST_AXES:
        raise ExportError(f"{len(rows)} axes are exchanged at once, a device has {MOST_AXES}; do it in two steps")
    padded = [(1, 0, 0)] * (MOST_AXES - len(rows)) + rows
    return np.array(padded, np.int32).T.copy()
