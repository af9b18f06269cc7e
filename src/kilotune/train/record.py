"""The record of a run: what was asked, on what it ran, what it cost and what came out. Written as run.json."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from kilotune.errors import RunError
from kilotune.train.files import write_atomic
from kilotune.train.recipe import Recipe
from kilotune.update_plan import ChannelSet

RECORD_VERSION = 1
Status = Literal["running", "done", "stopped", "failed"]


class LedgerFigures(msgspec.Struct, frozen=True):
    """Both ledgers of the first plan, and what no plan of the run exceeds."""

    selection_elements: int
    selection_bytes: int
    saved_bytes: int
    total_bytes: int
    worst_selection_elements: int
    worst_total_bytes: int


class SurveyFigures(msgspec.Struct, frozen=True):
    """An oracle's passes with the full gradient, which are outside the budget: how many, and their steps together.

    total_bytes: all RAM of one step of a pass. saved_bytes: what it keeps from forward to backward.
    """

    passes: int
    steps: int
    total_bytes: int
    saved_bytes: int


class EpochFigures(msgspec.Struct, frozen=True):
    """One epoch (from 1). loss: mean over its steps; accuracy, val_loss: after it; lr: of its last step.

    selection_elements, total_bytes, channels: of the first plan of the epoch; plans: how many the epoch used.
    capped: share of the compressed inputs that met their cap, 0 where nothing is compressed by the data.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    lr: float
    seconds: float
    selection_elements: int
    total_bytes: int
    plans: int
    channels: tuple[ChannelSet, ...]
    capped: float = 0.0


class Record(msgspec.Struct, kw_only=True):
    """A run so far; accuracies are shares, times are seconds of this and all resumed parts together.

    survey: only for oracles.
    """

    recipe: Recipe
    ledger: LedgerFigures
    base_sha256: str
    versions: dict[str, str]
    commit: str | None
    hardware: dict[str, Any]
    status: Status = "running"
    error: str | None = None
    accuracy_before: float | None = None
    accuracy: float | None = None
    best_accuracy: float | None = None
    seconds: float = 0.0
    survey: SurveyFigures | None = None
    epochs: list[EpochFigures] = []
    version: int = RECORD_VERSION

    def add(self, figures: EpochFigures) -> None:
        """Take in one more epoch."""
        self.epochs.append(figures)
        self.accuracy = figures.accuracy
        self.best_accuracy = max(epoch.accuracy for epoch in self.epochs)
        self.seconds += figures.seconds

    def count_survey(self, n_steps: int) -> None:
        """Take in a pass of an oracle."""
        if self.survey is not None and n_steps:
            passes, steps = self.survey.passes + 1, self.survey.steps + n_steps
            self.survey = msgspec.structs.replace(self.survey, passes=passes, steps=steps)

    def summary(self) -> dict[str, Any]:
        """What a user wants to see at once: accuracies, bytes and seconds, per epoch too; plain JSON data."""
        shown = ("status", "accuracy_before", "accuracy", "best_accuracy", "ledger", "survey", "seconds", "epochs")
        plain = msgspec.to_builtins(self)
        epochs = [{key: value for key, value in epoch.items() if key != "channels"} for epoch in plain["epochs"]]
        return (
            {"policy": self.recipe.policy, "keep": self.recipe.keep}
            | {key: plain[key] for key in shown}
            | {"epochs": epochs}
        )

    def write(self, path: Path) -> None:
        """Write the record, readable by people too. Raises TrainingError if the disk refuses."""
        write_atomic(path, msgspec.json.format(msgspec.json.encode(self), indent=1))


def read_record(path: Path) -> Record:
    """The record in a run.json. Raises RunError if there is none or it is not one."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except OSError as error:
        raise RunError(f"{path.parent} is not a run folder: {error.strerror}: {path.name}") from error
    except msgspec.MsgspecError as error:
        raise RunError(f"{path} is not the record of a run: {error}") from error
    if record.version != RECORD_VERSION:
        raise RunError(f"{path} has version {record.version}, this kilotune reads version {RECORD_VERSION}")
    return record


def birth_certificate(device: torch.device) -> dict[str, Any]:
    """The fields ``versions``, ``commit`` and ``hardware`` of a record."""
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "kilotune": version("kilotune"),
        },
        "commit": _commit(),
        "hardware": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
        },
    }


def _commit() -> str | None:
    """Commit of the checkout this package runs from, "-dirty" if files differ; None where it is not tracked by git."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*command: str) -> str:
    folder = Path(__file__).parent
    return subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
