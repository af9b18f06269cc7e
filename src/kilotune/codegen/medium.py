"""Memory of this computer as the pages that a project's weight store is written to."""

import ctypes

import numpy as np

PAGE_BYTES = 4096
_ERASED = 0xFF

_TRANSFER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)
_ERASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32)


class MediumStruct(ctypes.Structure):
    """``kt_medium``."""

    _fields_ = [
        ("read", _TRANSFER),
        ("erase", _ERASE),
        ("write", _TRANSFER),
        ("page_bytes", ctypes.c_uint32),
        ("n_pages", ctypes.c_uint32),
        ("map", ctypes.c_void_p),
    ]


class MemoryMedium:
    """``nbytes`` in whole pages, erased, or with the ``cells`` of another one: then its store is found again."""

    def __init__(self, nbytes: int, cells: np.ndarray | None = None):
        n_pages = -(-nbytes // PAGE_BYTES)
        self.cells = np.full(n_pages * PAGE_BYTES, _ERASED, np.uint8) if cells is None else cells.copy()
        self._start = self.cells.ctypes.data
        functions = _TRANSFER(self._read), _ERASE(self._erase), _TRANSFER(self._write)
        self.struct = MediumStruct(*functions, PAGE_BYTES, n_pages, self._start)

    def _read(self, address: int, to: int, n: int) -> int:
        ctypes.memmove(to, self._start + address, n)
        return 0

    def _erase(self, page: int) -> int:
        self.cells[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = _ERASED
        return 0

    def _write(self, address: int, source: int, n: int) -> int:
        ctypes.memmove(self._start + address, source, n)
        return 0
