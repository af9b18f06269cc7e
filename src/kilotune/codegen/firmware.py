"""From a C project to a program for a board: compiled, linked within the RAM limit, measured."""

import re
from dataclasses import dataclass
from pathlib import Path

from kilotune.codegen.boards import Board
from kilotune.codegen.manifest import Manifest
from kilotune.codegen.package import RUNTIME, memory_map
from kilotune.codegen.tools import run_tool
from kilotune.errors import EmulatorError
from kilotune.units import format_bytes

BOARD_FILES = RUNTIME / "boards"
FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")
PHASES = ("start", "forward", "step", "update", "redraw", "save")

_OVERFLOW = re.compile(r"region `(RAM|FLASH|EXTERNAL)' overflowed by (\d+) bytes?")
_MEMORY = {"RAM": "RAM", "FLASH": "flash", "EXTERNAL": "external memory"}


@dataclass(frozen=True)
class Project:
    """What is compiled: C files, the folders of their headers, and the stack they are given, bytes.

    arena_bytes: of it in RAM, and program_bytes: the most that all else there may take, 0 where nobody said.
    """

    sources: tuple[Path, ...]
    include: tuple[Path, ...]
    stack_bytes: int
    arena_bytes: int = 0
    program_bytes: int = 0

    @classmethod
    def of(cls, folder: Path) -> "Project":
        """An exported folder. Raises ExportError if it is none."""
        manifest = Manifest.read(folder)
        sizes = manifest.stack_bytes, manifest.arena_bytes, manifest.program_bytes
        return cls(tuple(sorted((folder / "src").glob("*.c"))), (folder / "src",), *sizes)


@dataclass(frozen=True)
class Sizes:
    """Sections of a program, bytes. text: code and constants, weights included. stack: what is set aside for it. ram: everything
    that lies in RAM, from the first section to the last, with what lies between them."""

    text: int
    data: int
    bss: int
    stack: int
    ram: int


@dataclass(frozen=True)
class Firmware:
    """A linked program. phases: addresses around each phase of the session, for the counting plugin."""

    path: Path
    sizes: Sizes
    phases: dict[str, tuple[int, int]]


def build(project: Project, board: Board, ram_bytes: int, out: Path) -> Firmware:
    """Compile and link ``project`` with the session program for ``board``, everything in RAM within ``ram_bytes``.

    Raises EmulatorError if a tool is missing, the compiler complains, or something does not fit, with the bytes: the RAM limit,
    or what the project's budget set aside for the program.
    """
    prefix, flags, startup = board.toolchain
    path = out / f"{board.name}.elf"
    own = [BOARD_FILES / name for name in ("kt_session.c", "kt_external.c", "kt_board_run.c", "kt_host.c", startup)]
    link: list[str | Path] = [
        "-nostartfiles",
        "-Wl,--gc-sections",
        "-T",
        BOARD_FILES / "firmware.ld",
        *_memory(project, board, ram_bytes),
    ]
    command: list[str | Path] = [f"{prefix}gcc", *FLAGS, "-ffunction-sections", "-fdata-sections", *flags, *board.flags]
    command += [*_include(project), *project.sources, *own, *link, "-o", path]
    try:
        run_tool(command, f"building for {board.name}")
    except EmulatorError as error:
        raise _overflow(error, board, ram_bytes) or error from error
    symbols = _symbols(prefix, path)
    sizes = _sizes(prefix, path, symbols["kt_bss_end"] - symbols["kt_ram_start"])
    _check_program(project, sizes, board)
    phases = {name: (symbols[f"kt_begin_{name}"] & ~1, symbols[f"kt_end_{name}"] & ~1) for name in PHASES}
    return Firmware(path, sizes, phases)


def build_host(project: Project, out: Path, compiler: str = "gcc") -> Path:
    """The same session as a program for this computer. Raises EmulatorError if the compiler is missing or complains."""
    path = out / "session"
    own = [BOARD_FILES / name for name in ("kt_session.c", "kt_external.c", "host.c")]
    run_tool(
        [compiler, *FLAGS, "-march=native", *_include(project), *project.sources, *own, "-o", path],
        "building for the host",
    )
    return path


def build_plugin(out: Path) -> Path:
    """The plugin of QEMU that counts instructions. Raises EmulatorError if there is no host compiler."""
    path = out / "count_plugin.so"
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    run_tool(["gcc", *flags, BOARD_FILES / "count_plugin.c", "-o", path], "building the instruction counter")
    return path


def _include(project: Project) -> list[str]:
    return [f"-I{folder}" for folder in (*project.include, BOARD_FILES)]


def _memory(project: Project, board: Board, ram_bytes: int) -> list[str]:
    """All symbols of firmware.ld."""
    symbols = memory_map(board) | {"kt_ram_bytes": ram_bytes, "kt_stack_bytes": project.stack_bytes}
    return [f"-Wl,--defsym={name}={value:#x}" for name, value in symbols.items()]


def _overflow(error: EmulatorError, board: Board, ram_bytes: int) -> EmulatorError | None:
    """What the linker says of memory that is too small, with the limit."""
    found = _OVERFLOW.search(str(error))
    if not found:
        return None
    limit = {"RAM": ram_bytes, "FLASH": board.flash.nbytes, "EXTERNAL": board.external.nbytes}[found[1]]
    needed = limit + int(found[2])
    return EmulatorError(
        f"the project needs {format_bytes(needed)} of {_MEMORY[found[1]]} on {board.name}, {int(found[2]):,} B more than the "
        f"{format_bytes(limit)} there are; give it more, or export for a smaller budget or a smaller number format"
    )


def _check_program(project: Project, sizes: Sizes, board: Board) -> None:
    found = sizes.ram - project.arena_bytes
    if 0 < project.program_bytes < found:
        raise EmulatorError(
            f"beside the arena stack, .data and .bss take {found:,} B on {board.name}, the budget sets "
            f"{project.program_bytes:,} B aside for them; "
            f"export with --program {found}, which leaves the rest of the budget to the arena"
        )


def _sizes(prefix: str, path: Path, ram: int) -> Sizes:
    sections: dict[str, int] = {}
    for line in run_tool([f"{prefix}size", "-A", path], "measuring").splitlines():
        name, *numbers = line.split() or [""]
        if name.startswith(".") and len(numbers) == 2:
            sections[name] = int(numbers[0])
    text = sum(sections.get(name, 0) for name in (".vectors", ".text", ".rodata", ".ARM.exidx"))
    return Sizes(text, sections.get(".data", 0), sections.get(".bss", 0), sections.get(".stack", 0), ram)


def _symbols(prefix: str, path: Path) -> dict[str, int]:
    """Where functions and variables are; of Thumb functions the lowest bit is 1."""
    lines = (line.split() for line in run_tool([f"{prefix}nm", path], "reading symbols").splitlines())
    return {parts[-1]: int(parts[0], 16) for parts in lines if len(parts) == 3}
