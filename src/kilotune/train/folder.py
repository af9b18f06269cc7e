"""The files of a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kilotune.errors import RunError, TrainingError


@dataclass(frozen=True)
class RunFolder:
    """Where each file of a run lies."""

    path: Path

    @property
    def record(self) -> Path:
        """What was asked and what came out."""
        return self.path / "run.json"

    @property
    def weights(self) -> Path:
        """The tuned state dict."""
        return self.path / "weights.safetensors"

    @property
    def update(self) -> Path:
        """What changed against the base."""
        return self.path / "update.safetensors"

    @property
    def checkpoint(self) -> Path:
        """State at the end of the last epoch."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def base(self) -> Path:
        """The state dict that the run started from."""
        return self.path / "checkpoint" / "base.safetensors"

    def create(self) -> None:
        """Make the folders. Raises RunError if there is a run already, TrainingError if the disk refuses."""
        if self.record.exists():
            raise RunError(f"{self.path} already holds a run; resume it, or choose another folder")
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot make the run folder {self.path}: {error.strerror}; choose another") from error

    @contextmanager
    def log(self) -> Iterator[None]:
        """While entered, what kilotune logs is appended to log.txt."""
        handler = logging.FileHandler(self.path / "log.txt")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger, level = logging.getLogger("kilotune"), logging.getLogger("kilotune").level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            handler.close()
