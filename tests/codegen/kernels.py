"""The kernels of the runtime, called from Python, compiled so that undefined behaviour stops the program."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

CONV = ("c", "h", "w", "o", "oh", "ow", "groups")
POOL = ("c", "h", "w", "oh", "ow")
_BYTES = ("kh", "kw", "sh", "sw", "dh", "dw", "top", "left")
FLAGS = ("-O1", "-march=native", "-fsanitize=undefined", "-fno-sanitize-recover=all")


def _geometry(name: str, sizes: tuple[str, ...]) -> type[ctypes.Structure]:
    fields = [(field, ctypes.c_uint16) for field in sizes] + [(field, ctypes.c_uint8) for field in _BYTES]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Conv: Any = _geometry("kt_conv", CONV)
Pool: Any = _geometry("kt_pool", POOL)


class Slice(ctypes.Structure):
    """``kt_slice``."""

    _fields_ = [
        ("index", ctypes.c_void_p),
        ("delta", ctypes.c_void_p),
        ("gradient", ctypes.c_void_p),
        ("velocity", ctypes.c_void_p),
        ("kept", ctypes.c_void_p),
        ("count", ctypes.c_uint16),
    ]  # fmt: skip


class Kernels:
    """``kernels("kt_add", a, b, y, n)``: arrays, structs and numbers as C takes them."""

    def __init__(self, library: Path):
        self._c = ctypes.CDLL(str(library))

    def __call__(self, name: str, *arguments: Any, result: Any = None) -> Any:
        function = getattr(self._c, name)
        function.restype = result
        return function(*map(self._convert, arguments))

    @staticmethod
    def _convert(argument: Any) -> Any:
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            return argument.ctypes.data_as(ctypes.c_void_p)
        if isinstance(argument, ctypes.Structure):
            return ctypes.byref(argument)
        return ctypes.c_float(argument) if isinstance(argument, float) else argument


def make_slice(index: np.ndarray, delta: np.ndarray, gradient: np.ndarray, kept: np.ndarray) -> Slice:
    """A slice over arrays that the caller keeps alive."""
    pointers = [array.ctypes.data for array in (index, delta, gradient)]
    return Slice(*pointers, None, kept.ctypes.data, len(index))
