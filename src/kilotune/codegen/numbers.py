"""How frozen weights are stored in flash, and what they then stand for."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kilotune.errors import ExportError
from kilotune.graph.patterns import patterns

WeightsDtype = Literal["float32", "float16", "int8"]
SUFFIX = {"float32": "f32", "float16": "f16", "int8": "s8"}

_INT8_MOST = 127


@dataclass(frozen=True, eq=False)
class Folded:
    """Weight (o, ...) and bias (o) of a layer with its frozen norm folded in, float32. scale: (o) derivative of the folded by
    the unfolded weight, bias_scale: of the folded by the unfolded bias; None where that is 1. pattern: (o, c/groups)
    uint8, the pattern of each kernel, None where they have none."""

    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray | None = None
    bias_scale: np.ndarray | None = None
    pattern: np.ndarray | None = None

    @property
    def places(self) -> np.ndarray | None:
        """(o, c/groups, t) where in each kernel its taps are, None where they are everywhere."""
        return None if self.pattern is None else np.array(patterns(self.weight.shape[2]))[self.pattern]


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight as it lies in flash; scale: (o), of int8."""

    values: np.ndarray
    scale: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray:
        """The float32 numbers that the device computes with; what ``kt_get_*`` give."""
        if self.scale is None:
            return self.values.astype(np.float32)
        rows = self.scale.reshape(-1, *[1] * (self.values.ndim - 1))
        return self.values.astype(np.float32) * rows


def at_places(weight: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    """Of kernels (o, c/groups, kh, kw) with patterns the taps (o, c/groups, t); other weights as they are."""
    return weight if places is None else np.take_along_axis(weight.reshape(*weight.shape[:2], -1), places, 2)


def store(weight: np.ndarray, dtype: WeightsDtype) -> Stored:
    """``weight`` (o, ...) in a number format; int8 is symmetric, one scale per output channel: the largest weight is 127.

    Raises ExportError for a weight that float16 cannot hold.
    """
    if dtype == "float32":
        return Stored(weight.astype(np.float32))
    if dtype == "float16":
        if np.abs(weight).max(initial=0) > np.finfo(np.float16).max:
            raise ExportError("a weight is larger than float16 can hold (65504); export with float32 or int8")
        return Stored(weight.astype(np.float16))
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scale = np.where(largest > 0, largest / _INT8_MOST, 1).astype(np.float32)
    rows = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return Stored(np.clip(np.rint(weight / rows), -_INT8_MOST, _INT8_MOST).astype(np.int8), scale)
