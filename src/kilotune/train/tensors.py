"""Named tensors to and from safetensors bytes, with one JSON text beside them."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from kilotune.errors import RunError
from kilotune.train.files import write_atomic


def snapshot(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies on the CPU that share no memory with anything."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; ``about`` is its metadata. Raises TrainingError if the disk refuses."""
    write_atomic(path, safetensors.torch.save(snapshot(tensors), metadata=about))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises RunError if it is missing or corrupt."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names start with ``prefix/``, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
