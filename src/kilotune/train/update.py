"""What fine-tuning changed, as a small file that turns another copy of the base model into the tuned one."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import torch

from kilotune.errors import WeightsError
from kilotune.train.tensors import read_tensors, under, write_tensors

State = Mapping[str, torch.Tensor]


def write_update(path: Path, base: State, tuned: State) -> None:
    """Write the entries of ``tuned`` that differ from ``base`` by at least one bit.

    Per changed tensor: ``indices/<name>`` (flat, int64) and ``values/<name>``, or ``whole/<name>`` where more than
    half of it changed. The new values are stored, not differences: ``base + (tuned - base)`` is not ``tuned`` in
    floating point, and the hash already pins the base. The metadata holds the SHA-256 of all of the base but the
    tensors replaced whole, so that a classifier made anew for the task may have started from other random numbers.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, old in base.items():
        changed = _bits(old).ne(_bits(tuned[name])).flatten().nonzero().flatten()
        if 2 * len(changed) > old.numel():
            tensors[f"whole/{name}"] = tuned[name]
        elif len(changed):
            tensors[f"indices/{name}"] = changed
            tensors[f"values/{name}"] = tuned[name].flatten()[changed]
    about = {"format": "kilotune-update-1", "base_sha256": fingerprint(base, except_for=under("whole", tensors))}
    write_tensors(path, tensors, about)


def apply_update(model: torch.nn.Module, path: str | Path) -> None:
    """Turn a copy of the base model into the tuned one, bit for bit.

    Raises WeightsError, leaving the model as it was, if it is not the base that the update was made from.
    """
    tensors, about = read_tensors(Path(path))
    state = model.state_dict()
    whole, indices, values = (under(part, tensors) for part in ("whole", "indices", "values"))
    _check_names(state, whole, indices)
    found = fingerprint(state, except_for=whole)
    if found != about.get("base_sha256"):
        raise WeightsError(
            f"{path} updates a base with SHA-256 {about.get('base_sha256')}, but this model has {found}; "
            "load the weights that the run started from (run.json names them)"
        )
    with torch.no_grad():
        for name, tensor in whole.items():
            state[name].copy_(tensor)
        for name, where in indices.items():
            spread = torch.unravel_index(where.to(state[name].device), state[name].shape)
            state[name][spread] = values[name].to(state[name].device)


def fingerprint(state: State, except_for: Iterable[str] = ()) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(set(state) - set(except_for)):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(msgspec.json.encode((name, str(tensor.dtype), list(tensor.shape))))
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The same bytes as integers, so that NaN equals itself and 0.0 differs from -0.0."""
    return tensor.detach().cpu().contiguous().view(_INTEGERS[tensor.element_size()])


def _check_names(state: State, whole: State, indices: State) -> None:
    wrong = sorted((set(whole) | set(indices)) - set(state))
    wrong += [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in whole.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        raise WeightsError(
            f"the update changes tensors this model does not have: {', '.join(wrong)}; build the run's model"
        )
