"""Object files of C sources, compiled once for the same content: for all tests, processes and runs."""

import fcntl
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time

from kilotune.codegen.tools import run_tool

_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_FORGOTTEN_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Objects:
    """Compiles into ``folder`` what is not there: an object is named after all that goes into it."""

    folder: Path

    def __call__(self, files: Sequence[Path], include: Path, compiler: str, *flags: str) -> list[Path]:
        """The object files of C files. Raises EmulatorError if the compiler is missing or complains."""
        place = self.folder / _target(compiler, flags)
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process is about to make the same ones
            made = {file: place / f"{file.stem}-{_content(file, include)}.o" for file in files}
            missing = [file for file, target in made.items() if not target.exists()]
            with TemporaryDirectory(dir=place) as out:
                if missing:
                    run_tool([compiler, *flags, f"-I{include}", "-c", *missing], "compiling", Path(out))
                for file in missing:
                    (Path(out) / f"{file.stem}.o").rename(made[file])
            for target in made.values():
                target.touch()
        return list(made.values())

    def forget(self) -> None:
        """Remove what nobody has asked for in a week."""
        for path in self.folder.glob("*/*.o"):
            if time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                path.unlink(missing_ok=True)


@cache
def _target(compiler: str, flags: tuple[str, ...]) -> str:
    """Of compiler, version, flags, and the processor that they stand for, as the macros tell it."""
    macros = run_tool([compiler, *flags, "-dM", "-E", "-x", "c", "/dev/null"], "asking")
    return sha256("\n".join([compiler, *flags, macros]).encode()).hexdigest()[:16]


def _content(file: Path, include: Path) -> str:
    texts = dict(_texts(file, include))
    return sha256(b"".join(texts[name] for name in sorted(texts))).hexdigest()[:16]


def _texts(file: Path, include: Path) -> Iterator[tuple[str, bytes]]:
    """A file and all that it includes of the project's own."""
    waiting, seen = [file], set()
    while waiting:
        path = waiting.pop()
        text = path.read_bytes()
        yield path.name, text
        for name in sorted({found.decode() for found in _INCLUDE.findall(text)} - seen):
            seen.add(name)
            beside = path.parent / name
            waiting.append(beside if beside.exists() else include / name)
