"""Pretrained weights: find a file or an entry of ``models.json``, read it without executing it, put it into a model."""

import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kilotune.errors import WeightsError
from kilotune.models.entry import Entry, read_entries, to_state_dict
from kilotune.models.head import find_head
from kilotune.models.proxylessnas import ProxylessNet, renumber_blocks
from kilotune.models.pruned import Pruned

# Where training scripts put the state dict inside what they save.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_N_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """A weight file, and its entry in ``models.json`` if it was found there."""

    source: str
    path: Path
    entry: Entry | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a weight file holds. Names are those of a state dict, or with ``entry`` those of the data drop.

    pruned: where the network comes from, if it is a pruned one.
    """

    source: str
    tensors: dict[str, Tensor]
    entry: Entry | None = None
    pruned: Pruned | None = None

    @property
    def folded(self) -> bool:
        """Whether there is no batch norm in it, so that convolutions have biases."""
        if self.entry:
            return self.entry.kind == "int8"
        return not any(name.endswith("running_mean") for name in self.tensors)

    def n_classes(self, head: str) -> int | None:
        """Classes of its classifier, None if it has none; ``head`` is what the model calls that layer."""
        if self.entry:
            return self.entry.classes
        weight = self.tensors.get(f"{head}.weight")
        return None if weight is None else weight.shape[0]


# Weights that come with the package.
SHIPPED = {"digitnet": Path(__file__).parent / "digitnet.safetensors"}


def find(spec: str) -> Found:
    """The weight file meant by ``spec``: a path, one of ``SHIPPED``, or an entry of ``$KILOTUNE_DATA/weights/models.json``.

    The path of an entry's file means the entry. Raises WeightsError, listing the entries there are, if it is neither.
    """
    path, data = Path(spec), Path(os.environ.get("KILOTUNE_DATA", ""))
    listing = data / "weights" / "models.json"
    entries = read_entries(listing) if listing.is_file() else {}
    for name, entry in entries.items():
        file = data / entry.file
        if spec == name or (path.is_file() and file.is_file() and path.samefile(file)):
            return Found(name, file, entry)
    if path.is_file():
        return Found(spec, path)
    if spec in SHIPPED:
        return Found(spec, SHIPPED[spec])
    if not entries:
        raise WeightsError(
            f"there is no weight file {spec!r}; if it is an entry of models.json, set KILOTUNE_DATA to the folder that "
            "holds weights/models.json"
        )
    raise WeightsError(f"{spec!r} is neither a file nor one of the entries {', '.join(entries)}")


def read(spec: str) -> Checkpoint:
    """The tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file or of an entry; nothing in the file is executed.

    Raises WeightsError if it cannot be found or read, or is anything but a state dict.
    """
    found = find(spec)
    reader = _READERS.get(found.path.suffix)
    if reader is None:
        raise WeightsError(f"{found.path} is of an unknown format; use one of {', '.join(_READERS)}")
    if not found.path.is_file():
        raise WeightsError(f"{spec} needs the file {found.path}, which is not there")
    tensors, metadata = reader(found.path)
    return Checkpoint(found.source, tensors, found.entry, Pruned.read(metadata, found.source))


def load_into(model: nn.Module, checkpoint: Checkpoint, with_head: bool = True) -> None:
    """Copies a checkpoint into a model; without head, the classifier stays as it is.

    Epsilons of the batch norms become those of the checkpoint's entry. Raises WeightsError, naming the tensors that are
    missing, unexpected or of another shape; the model is unchanged then.
    """
    tensors, entry, found = checkpoint.tensors, checkpoint.entry, find_head(model)
    if entry:
        tensors = to_state_dict(entry, tensors, model)
    elif isinstance(model, ProxylessNet):
        tensors = renumber_blocks(tensors)
    left_out = {f"{found[0]}.weight", f"{found[0]}.bias"} if found and not with_head else set()
    tensors = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    _check_keys(model, tensors, checkpoint.source, left_out)
    model.load_state_dict(tensors, strict=False)
    if entry and entry.bn_eps is not None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = entry.bn_eps


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with warnings.catch_warnings():
            # About the pickle protocol; what matters is whether the file can be read.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a plain state dict: it is corrupt or would execute code, which kilotune never does; "
            "save it again with torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError) as error:
        raise WeightsError(f"{path} is corrupt: {error}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), path)")
    return dict(content), {}


_READERS: dict[str, Callable[[Path], tuple[dict[str, Tensor], dict[str, str]]]] = {
    ".safetensors": _read_safetensors,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
}


def _check_keys(model: nn.Module, tensors: dict[str, Tensor], source: str, left_out: set[str]) -> None:
    wanted = model.state_dict()
    optional = left_out | {name for name in wanted if name.endswith("num_batches_tracked")}
    problems = {
        "missing": [name for name in wanted if name not in tensors and name not in optional],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in tensors and tensors[name].shape != wanted[name].shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {kind} ({_shorten(names)})" for kind, names in problems.items() if names)
        raise WeightsError(f"{source} does not fit the network: {found}; choose the model it was saved from")


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_N_SHOWN]) + (", ..." if len(names) > _N_SHOWN else "")
