"""What an exported folder says of itself, for the tools that build and run it: ``kilotune.json``."""

from pathlib import Path
from typing import Literal

import msgspec

from kilotune.errors import ExportError

FILE = "kilotune.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exported project. Bytes; shapes are (c, h, w).

    mean, std: what the pixels, scaled to 0..1, were normalised with in training. image_dtype: what the project reads.
    redraw: when the device draws new channels, a number is one of updates. memory: the arena by kind, and all else in RAM,
    summing to ``ram_bytes``.
    store_bytes: size of the committed weights, 0 where nothing is committed. program_bytes: what the budget set aside for what
    lies in RAM beside the arena, 0 where it counts the arena alone.
    """

    model: str
    input: tuple[int, int, int]
    n_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_dtype: Literal["float32", "uint8"] = "float32"
    policy: str
    redraw: Literal["never", "epoch", "step"] | int
    seed: int
    optimizer: str
    learning_rate: float
    weights_dtype: Literal["float32", "float16", "int8"]
    memory: dict[str, int]
    arena_bytes: int
    stack_bytes: int
    ram_bytes: int
    flash_bytes: int
    store_bytes: int = 0
    program_bytes: int = 0
    version: int = 1

    def write(self, folder: Path) -> None:
        """Write ``kilotune.json`` into an exported folder, one key per line."""
        (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of ``folder``. Raises ExportError if that is not an exported project, or is damaged."""
        try:
            return msgspec.json.decode((folder / FILE).read_bytes(), type=cls)
        except OSError as error:
            raise ExportError(
                f"{folder} is not an exported project, {FILE} cannot be read ({error.strerror}); make one with `kilotune export`"
            ) from error
        except msgspec.MsgspecError as error:
            raise ExportError(f"{folder / FILE} is damaged: {error}; export the project again") from error
