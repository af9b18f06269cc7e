"""A session of the firmware under QEMU: built, run within its RAM limit, and what it found."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kilotune.codegen.boards import Board
from kilotune.codegen.firmware import Firmware, Project, Sizes, build, build_host, build_plugin
from kilotune.codegen.session import Session
from kilotune.codegen.tools import find_tool
from kilotune.errors import EmulatorError

TIMEOUT_SECONDS = 600.0
_FAULT, _FAILED = 3, 5
_ANSWER = re.compile(r"(\w+) ([0-9a-f]{8})")
_CODES = {
    -1: "a label is out of range",
    -2: "the weight store cannot be read or written",
    -3: "the weight store is corrupt, no commit of it is intact; erase it to start from the exported weights",
    -4: "a draw exceeds the memory that was laid out",
    -5: "the weight store belongs to another project; erase it to start from the exported weights",
}


@dataclass(frozen=True)
class Count:
    """Instructions of a phase of the session: how often it ran, the fewest, the most, all together."""

    calls: int
    fewest: int
    most: int
    total: int

    @property
    def mean(self) -> int:
        """Instructions of one call, rounded down; 0 where there was none."""
        return self.total // self.calls if self.calls else 0


@dataclass(frozen=True)
class Outcome:
    """What a session found. loss: of each training step. n_right: of the test samples, before and after.

    weights_hash: of all weights that were trained. stack_bytes, arena_bytes: high-water marks; of the stack 0 on the host.
    """

    loss: tuple[float, ...]
    n_right_before: int
    n_right_after: int
    weights_hash: int
    stack_bytes: int
    arena_bytes: int


@dataclass(frozen=True)
class Emulation:
    """A session on a board: what it found, what the program takes, what each phase cost."""

    outcome: Outcome
    sizes: Sizes
    instructions: dict[str, Count]


def find_tools(board: Board) -> None:
    """Raises EmulatorError if something is missing that ``emulate`` or ``run_on_host`` calls, or QEMU does not know the board."""
    if not board.emulator:
        raise EmulatorError(f"{board.name} can be compiled for but not emulated; choose a board that QEMU knows")
    for tool in (board.emulator[0], f"{board.toolchain.prefix}gcc", "gcc"):
        find_tool(tool)


def emulate(
    project: Project, board: Board, ram_bytes: int, session: Session, timeout: float = TIMEOUT_SECONDS
) -> Emulation:
    """Run ``session`` on ``board`` with ``ram_bytes`` of RAM.

    Raises EmulatorError as ``find_tools``, or if the project does not fit, the firmware faults or takes longer than ``timeout``
    seconds.
    """
    find_tools(board)
    with TemporaryDirectory(prefix="kilotune-") as name:
        folder = Path(name)
        firmware, plugin = build(project, board, ram_bytes, folder), build_plugin(folder)
        session.write(folder)
        marks = [f"{phase}={begin:x}:{end:x}" for phase, (begin, end) in firmware.phases.items()]
        command = [
            *board.emulator, "-display", "none", "-monitor", "none", "-serial", "null",
            "-semihosting-config", "enable=on,target=native", "-plugin", ",".join([str(plugin), "out=counts", *marks]),
            "-kernel", str(firmware.path),
        ]  # fmt: skip
        outcome = _parse(_run(command, folder, timeout, firmware))
        return Emulation(outcome, firmware.sizes, _counts(folder / "counts"))


def run_on_host(project: Project, session: Session, compiler: str = "gcc", timeout: float = TIMEOUT_SECONDS) -> Outcome:
    """The same session by the same C on this computer; raises as ``emulate``."""
    with TemporaryDirectory(prefix="kilotune-") as name:
        folder = Path(name)
        program = build_host(project, folder, compiler)
        session.write(folder)
        return _parse(_run([str(program)], folder, timeout, None))


def compare(board: Outcome, host: Outcome, name: str) -> None:
    """Raises EmulatorError where a board and this computer do not agree to the bit, with the first training step that differs."""
    pairs = enumerate(zip(board.loss, host.loss, strict=True))
    differs = next(
        (f"loss of step {step}: {ours!r} and {theirs!r}" for step, (ours, theirs) in pairs if ours != theirs), None
    )
    if differs is None and board.weights_hash != host.weights_hash:
        differs = f"weights: hashes {board.weights_hash:08x} and {host.weights_hash:08x}"
    if differs is not None:
        raise EmulatorError(
            f"{name} and this computer differ in the {differs}; compile both with -ffp-contract=off and without -ffast-math"
        )


def _run(command: Sequence[str], folder: Path, timeout: float, firmware: Firmware | None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise EmulatorError(
            f"the firmware did not finish within {timeout:g} seconds; give more time, or fewer samples"
        ) from error
    printed = done.stdout + done.stderr
    if done.returncode:
        who = "the same session on this computer" if firmware is None else "the emulator"
        raise EmulatorError(_reason(who, done.returncode, printed))
    return printed


def _reason(who: str, code: int, printed: str) -> str:
    lines = printed.splitlines() or ["it said nothing"]
    if code == _FAULT:
        status, address, counter = next(line.split()[1:4] for line in lines if line.startswith("fault "))
        return (
            f"the firmware faulted: access to address 0x{address} by the instruction at 0x{counter}, status 0x{status}; "
            "an access outside the RAM limit is an error of the project, please report it"
        )
    if code == _FAILED:
        _, word, what = next(line for line in lines if line.startswith("failed ")).split()
        number = int(np.uint32(int(word, 16)).astype(np.int32))
        return f"{what} of the firmware failed: {_CODES.get(number, f'code {number}')}"
    return f"{who} ended with code {code}: {lines[-1]}"


def _parse(printed: str) -> Outcome:
    words: dict[str, list[int]] = {}
    for line in printed.splitlines():
        if found := _ANSWER.fullmatch(line.strip()):
            words.setdefault(found[1], []).append(int(found[2], 16))
    losses = np.array(words.get("loss", []), np.uint32).view(np.float32)
    if not np.isfinite(losses).all():
        step = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise EmulatorError(f"the loss became {losses[step]} in training step {step + 1}; export with a lower --lr")
    try:
        once = [words[name][0] for name in ("before", "after", "hash", "stack", "arena")]
        return Outcome(tuple(losses.tolist()), *once)
    except KeyError as error:
        last = (printed.splitlines() or ["it said nothing"])[-1]
        raise EmulatorError(f"the firmware stopped before it was done, after {len(losses)} steps: {last}") from error


def _counts(path: Path) -> dict[str, Count]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {name: Count(*map(int, numbers)) for name, *numbers in rows}
