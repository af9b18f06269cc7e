"""Everything a run needs to go on as if it had never stopped, in one file that is replaced in one move."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from kilotune.errors import RunError
from kilotune.train.record import Record
from kilotune.train.tensors import read_tensors, under, write_tensors
from kilotune.update_plan import UpdatePlan

CHECKPOINT_VERSION = 1
Tensors = dict[str, torch.Tensor]
Numbers = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """The state at the end of an epoch.

    weights: the whole state dict, trained slices written back. optimizer, optimizer_numbers: its state by live
    parameter. selector, scaler: their own plain states. generators: torch's, by device. factors: those that ways of keeping
    hold from step to step.
    """

    weights: Tensors
    optimizer: Tensors
    generators: Tensors
    factors: Tensors
    optimizer_numbers: Numbers
    plan: UpdatePlan
    selector: Any
    scaler: dict[str, Any]
    record: Record

    def write(self, path: Path) -> None:
        """Replace ``path``; raises TrainingError if the disk refuses, the earlier checkpoint is then intact."""
        parts = {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "generators": self.generators,
            "factors": self.factors,
        }
        tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        rest = _Rest(self.optimizer_numbers, self.plan, self.selector, self.scaler, self.record)
        write_tensors(path, tensors, {"state": msgspec.json.encode(rest).decode()})

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """The checkpoint in ``path``. Raises RunError if there is none, or it is corrupt or of another version."""
        tensors, about = read_tensors(path)
        try:
            rest = msgspec.json.decode(about.get("state", ""), type=_Rest)
        except (msgspec.MsgspecError, ValueError) as error:
            raise RunError(f"{path} is not a checkpoint: {error}") from error
        if rest.version != CHECKPOINT_VERSION:
            raise RunError(f"{path} has version {rest.version}, this kilotune reads version {CHECKPOINT_VERSION}")
        return cls(
            under("weights", tensors),
            under("optimizer", tensors),
            under("generators", tensors),
            under("factors", tensors),
            rest.optimizer_numbers,
            rest.plan,
            rest.selector,
            rest.scaler,
            rest.record,
        )


class _Rest(msgspec.Struct):
    optimizer_numbers: Numbers
    plan: UpdatePlan
    selector: Any
    scaler: dict[str, Any]
    record: Record
    version: int = CHECKPOINT_VERSION


def optimizer_state(optimizer: torch.optim.Optimizer, live: dict[str, torch.nn.Parameter]) -> tuple[Tensors, Numbers]:
    """The optimiser's state by name of live parameter: tensors as ``<parameter>/<key>``, and the rest."""
    tensors, numbers = Tensors(), Numbers()
    state = optimizer.state_dict()["state"]
    for index, name in enumerate(_names(optimizer, live)):
        for key, value in state.get(index, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value
            else:
                numbers.setdefault(name, {})[key] = value
    return tensors, numbers


def restore_optimizer(
    optimizer: torch.optim.Optimizer, live: dict[str, torch.nn.Parameter], tensors: Tensors, numbers: Numbers
) -> None:
    """Give ``optimizer`` the state that ``optimizer_state`` took, whatever the order of its parameters."""
    state = {
        index: {**under(name, tensors), **numbers.get(name, {})} for index, name in enumerate(_names(optimizer, live))
    }
    filled = {index: entries for index, entries in state.items() if entries}
    optimizer.load_state_dict({"state": filled, "param_groups": optimizer.state_dict()["param_groups"]})


def _names(optimizer: torch.optim.Optimizer, live: dict[str, torch.nn.Parameter]) -> Sequence[str]:
    name_of = {id(parameter): name for name, parameter in live.items()}
    return [name_of[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def generator_states() -> Tensors:
    """States of torch's generators, of the CPU and of every CUDA device."""
    devices = range(torch.cuda.device_count())
    return {"cpu": torch.get_rng_state(), **{f"cuda:{index}": torch.cuda.get_rng_state(index) for index in devices}}


def seeded_generators(seed: int) -> Tensors:
    """The states that ``seed`` gives; the generators themselves stay as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return generator_states()


def restore_generators(states: Tensors) -> None:
    """Set the generators of the devices that are there."""
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{index}"], index)
