"""Measured results as small JSON files: complete or not there at all, and read back only as what they were."""

import os
from pathlib import Path
from typing import TypeVar

import msgspec

Record = TypeVar("Record")


def save_json(path: Path, record: object) -> None:
    """Write ``record`` as JSON, complete or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    os.replace(temporary, path)


def load_json(path: Path, kind: type[Record], what: str, error: type[Exception], advice: str) -> Record:
    """The record of type ``kind`` that ``save_json`` wrote; raises ``error`` if the file is missing or anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, ValueError) as reason:
        raise error(f"cannot read {what} from {path}: {reason}; {advice}") from reason
