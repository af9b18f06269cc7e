"""Bytes as people write them. The only file that divides by 1024."""

import re

from kilotune.errors import BudgetError

DTYPE_BYTES = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float64": 8,
    "int32": 4,
    "int64": 8,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}

_SUFFIXES = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int) -> int:
    """Number of bytes meant by ``text``: ``"256KiB"`` -> 262144, ``"100kB"`` -> 100000, ``"512"`` -> 512.

    Raises BudgetError for anything else, negative amounts and unknown units included.
    """
    match = _PATTERN.fullmatch(str(text))
    scale = _SUFFIXES.get(match[2].upper()) if match else None
    if match is None or scale is None:
        raise BudgetError(f"cannot read {text!r} as an amount of memory; write for instance 256KiB, 1.5MiB or 65536")
    return int(float(match[1]) * scale)


def format_bytes(nbytes: int) -> str:
    """``nbytes`` exactly and in KiB: ``"262,144 B (256.0 KiB)"``."""
    return f"{nbytes:,} B ({kib(nbytes):,.1f} KiB)"


def kib(nbytes: int) -> float:
    """``nbytes`` in KiB."""
    return nbytes / 1024
