"""The boards that firmware is built for: processor, memory, compiler flags, and how QEMU emulates them."""

from dataclasses import dataclass
from typing import NamedTuple

from kilotune.errors import EmulatorError
from kilotune.units import format_bytes


class Region(NamedTuple):
    """A stretch of memory, bytes."""

    origin: int
    nbytes: int


class Toolchain(NamedTuple):
    """A cross compiler: prefix of its tools, flags that all its boards share, and the file of start-up code."""

    prefix: str
    flags: tuple[str, ...]
    startup: str


@dataclass(frozen=True)
class Board:
    """A microcontroller board. machine: of ``emulator``; None where it can only be compiled for.

    ram: where the stack, .data and .bss go; its size is the most that ``--ram`` may ask for. external: further memory for
    the weight store. vectors: where the processor starts.
    """

    name: str
    processor: str
    toolchain: Toolchain
    flags: tuple[str, ...]
    vectors: Region
    flash: Region
    ram: Region
    external: Region
    emulator: tuple[str, ...] = ()

    def ram_limit(self, nbytes: int | None) -> int:
        """``nbytes``, or all the RAM for None.

        Raises EmulatorError where the board has less, or cannot protect exactly what lies beyond.
        """
        if nbytes is not None and nbytes > self.ram.nbytes:
            raise EmulatorError(
                f"{self.name} has {format_bytes(self.ram.nbytes)} of RAM, {format_bytes(nbytes)} were asked for; "
                "give less, or choose another board"
            )
        if nbytes is not None and nbytes % PROTECTED_BYTES:
            below = nbytes // PROTECTED_BYTES * PROTECTED_BYTES
            raise EmulatorError(
                f"{nbytes:,} B of RAM were asked for, but what lies beyond is protected in steps of {PROTECTED_BYTES} B only; "
                f"give {below} or {below + PROTECTED_BYTES}"
            )
        return self.ram.nbytes if nbytes is None else nbytes

    def check_store(self, nbytes: int) -> None:
        """Raises EmulatorError where a weight store of ``nbytes`` has no place."""
        if nbytes > self.external.nbytes:
            raise EmulatorError(
                f"the policy draws new channels while it trains and commits to a weight store of {format_bytes(nbytes)}, "
                f"{self.name} has {format_bytes(self.external.nbytes)} of memory for one; "
                "choose another board, or export a policy that draws once"
            )


KIB, MIB = 1024, 1024 * 1024
PROTECTED_BYTES = 32
"""What protection units of all processors can tell apart."""
NOTHING = Region(0, 0)

ARM = Toolchain("arm-none-eabi-", ("-mthumb",), "cortex_m.c")
RISCV = Toolchain("riscv64-unknown-elf-", ("--specs=picolibc.specs",), "rv32.c")


def _arm(machine: str) -> tuple[str, ...]:
    return ("qemu-system-arm", "-M", machine)


_M4F = ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_M7 = ("-mcpu=cortex-m7", "-mfloat-abi=hard")

_TABLE = (
    Board(
        "mps2-an386",
        "Cortex-M4F",
        ARM,
        _M4F,
        vectors=Region(0, KIB),
        flash=Region(KIB, 4 * MIB - KIB),
        ram=Region(0x20000000, 4 * MIB),
        external=Region(0x21000000, 16 * MIB),
        emulator=_arm("mps2-an386"),
    ),
    Board(
        "netduinoplus2",
        "Cortex-M4F, STM32F405",
        ARM,
        _M4F,
        vectors=Region(0x08000000, KIB),
        flash=Region(0x08000400, MIB - KIB),
        ram=Region(0x20000000, 192 * KIB),
        external=NOTHING,
        emulator=_arm("netduinoplus2"),
    ),
    Board(
        "mps2-an500",
        "Cortex-M7",
        ARM,
        (*_M7, "-mfpu=fpv5-d16"),
        vectors=Region(0, KIB),
        flash=Region(KIB, 4 * MIB - KIB),
        ram=Region(0x20000000, 4 * MIB),
        external=Region(0x60000000, 16 * MIB),
        emulator=_arm("mps2-an500"),
    ),
    Board(
        "mps2-an505",
        "Cortex-M33",
        ARM,
        ("-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
        vectors=Region(0x10000000, KIB),
        flash=Region(0x10000400, 4 * MIB - KIB),
        ram=Region(0x38000000, 4 * MIB),
        external=Region(0x80000000, 16 * MIB),
        emulator=_arm("mps2-an505"),
    ),
    Board(
        "mps3-an547",
        "Cortex-M55",
        ARM,
        ("-mcpu=cortex-m55", "-mfloat-abi=hard"),
        vectors=Region(0, KIB),
        flash=Region(0x11000000, 2 * MIB),
        ram=Region(0x20000000, 512 * KIB),
        external=Region(0x31000000, 4 * MIB),
        emulator=_arm("mps3-an547"),
    ),
    Board(
        "mps2-an385",
        "Cortex-M3, no floating point unit",
        ARM,
        ("-mcpu=cortex-m3",),
        vectors=Region(0, KIB),
        flash=Region(KIB, 4 * MIB - KIB),
        ram=Region(0x20000000, 4 * MIB),
        external=Region(0x21000000, 16 * MIB),
        emulator=_arm("mps2-an385"),
    ),
    Board(
        "rv32-virt",
        "RV32IMAFC",
        RISCV,
        ("-march=rv32imafc", "-mabi=ilp32f"),
        vectors=Region(0x80000000, KIB),
        flash=Region(0x80000400, 8 * MIB - KIB),
        ram=Region(0x80800000, 4 * MIB),
        external=Region(0x81000000, 16 * MIB),
        emulator=("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
    ),
    Board(
        "stm32f746",
        "Cortex-M7, STM32F746 (compiled only)",
        ARM,
        (*_M7, "-mfpu=fpv5-sp-d16"),
        vectors=Region(0x08000000, KIB),
        flash=Region(0x08000400, MIB - KIB),
        ram=Region(0x20000000, 320 * KIB),
        external=NOTHING,
    ),
    Board(
        "stm32h743",
        "Cortex-M7, STM32H743 (compiled only)",
        ARM,
        (*_M7, "-mfpu=fpv5-d16"),
        vectors=Region(0x08000000, KIB),
        flash=Region(0x08000400, 2 * MIB - KIB),
        ram=Region(0x24000000, 512 * KIB),
        external=Region(0x30000000, 288 * KIB),
    ),
)

BOARDS = {board.name: board for board in _TABLE}


def find_board(name: str) -> Board:
    """The board called ``name``. Raises EmulatorError, listing all, if there is none."""
    if name not in BOARDS:
        known = ", ".join(f"{board.name} ({board.processor})" for board in _TABLE)
        raise EmulatorError(f"there is no board {name!r}; choose from {known}")
    return BOARDS[name]
