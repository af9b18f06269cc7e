"""Compilers and emulators as they are found on this machine; a message with the package to install where one is not."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kilotune.errors import EmulatorError

_WRONG = re.compile(r" error: (?!ld returned)|overflowed by|undefined reference")

# Tool -> Debian packages that bring it, with the C library it needs.
PACKAGES = {
    "gcc": "gcc",
    "clang": "clang",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-nm": "binutils-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "riscv64-unknown-elf-nm": "binutils-riscv64-unknown-elf",
    "riscv64-unknown-elf-size": "binutils-riscv64-unknown-elf",
    "qemu-system-riscv32": "qemu-system-misc",
}


def find_tool(name: str) -> str:
    """Path of a tool. Raises EmulatorError, with the package to install, if there is none."""
    path = shutil.which(name)
    if path is None:
        raise EmulatorError(f"{name} is not installed; on Debian: apt-get install {PACKAGES.get(name, name)}")
    return path


def run_tool(command: Sequence[str | Path], what: str, folder: Path | None = None) -> str:
    """Run a compiler and return what it printed. Raises EmulatorError with its first complaint if it fails.

    Ctrl-C does not reach it: whoever runs it decides what is broken off.
    """
    words = [find_tool(str(command[0])), *map(str, command[1:])]
    with TemporaryDirectory(prefix="kilotune-") as temporary:
        done = subprocess.run(
            words,
            cwd=folder,
            env=os.environ | {"TMPDIR": temporary},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
    if done.returncode:
        raise EmulatorError(f"{what} failed: {_complaint(done.stderr)}")
    return done.stdout


def _complaint(text: str) -> str:
    """The first line that says what is wrong, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if _WRONG.search(line)), lines[-1])
