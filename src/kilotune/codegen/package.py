"""What makes an exported folder build: a Makefile, boards, the forms Arduino, PlatformIO and Zephyr want, and a README."""

import shutil
from pathlib import Path

import kilotune
from kilotune.codegen.boards import BOARDS, Board
from kilotune.codegen.manifest import Manifest
from kilotune.units import format_bytes

RUNTIME = Path(kilotune.__file__).parent / "runtime"
_HOST_ONLY = ("count_plugin.c", "host.c")

README = """# {model}, learning on the board

Exported by kilotune: plain C99, no allocation, no library but the compiler's own. `src/kt_project.h` has the functions.

```
make                      # build/libkilotune.a for this computer
make BOARD=mps2-an386     # build/mps2-an386.elf; boards: {boards}
make BOARD=stm32f746 RAM=262144 MAIN=main.c
```

`examples/Train/Train.ino` is the smallest program: an image, a step, and where the policy draws, a weight store in three
functions, which `kt_use_store` takes.

The folder is an Arduino library (`library.properties`), a PlatformIO library (`library.json`; `platformio.ini` is a template for
an STM32F746 and an STM32H743 board) and a Zephyr module (`zephyr/`, CONFIG_KILOTUNE_PROJECT). `kilotune verify` compares it with
PyTorch, `kilotune emulate` runs it on an emulated board.

## Memory

| in RAM | bytes |
|---|---:|
{memory}
| **all** | **{ram:,}** |

That is the project; the program around it has variables besides, that of `boards/` some 80 bytes, and the linker says how many.

Flash: {flash} of constants, weights as {weights_dtype}, and the code. {store}

## Training

Input {input}, {n_classes} classes. Policy {policy}, new channels: {redraw}, seed {seed}. Optimiser {optimizer}, learning rate
{learning_rate:g}. Pixels are scaled to 0..1, then mean {mean} is subtracted and the result divided by {std}.
"""


def package(folder: Path, manifest: Manifest) -> None:
    """Complete an exported folder, whose ``src/`` is there, with everything that builds it."""
    shutil.copytree(RUNTIME / "package", folder, dirs_exist_ok=True)
    boards = folder / "boards"
    shutil.copytree(RUNTIME / "boards", boards, ignore=shutil.ignore_patterns(*_HOST_ONLY), dirs_exist_ok=True)
    for board in BOARDS.values():
        (boards / f"{board.name}.mk").write_text(_board_makefile(board))
    (folder / "README.md").write_text(_readme(manifest))
    manifest.write(folder)


def memory_map(board: Board) -> dict[str, int]:
    """Symbols of ``firmware.ld`` that the board decides."""
    regions = {"vectors": board.vectors, "flash": board.flash, "external": board.external}
    symbols = {"kt_ram_origin": board.ram.origin}
    for name, (origin, nbytes) in regions.items():
        symbols |= {f"kt_{name}_origin": origin, f"kt_{name}_bytes": nbytes}
    return symbols


def _board_makefile(board: Board) -> str:
    symbols = " ".join(f"-Wl,--defsym={name}={value:#x}" for name, value in memory_map(board).items())
    return (
        f"# {board.processor}\n"
        f"PREFIX := {board.toolchain.prefix}\n"
        f"STARTUP := {board.toolchain.startup}\n"
        f"BOARD_FLAGS := {' '.join((*board.toolchain.flags, *board.flags))}\n"
        f"MEMORY_MAP := {symbols}\n"
        f"RAM ?= {board.ram.nbytes}\n"
    )


def _readme(manifest: Manifest) -> str:
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    store = f"The weight store holds {format_bytes(manifest.store_bytes)}." if manifest.store_bytes else ""
    return README.format(
        **fields
        | {
            "boards": ", ".join(BOARDS),
            "memory": "\n".join(f"| {kind} | {nbytes:,} |" for kind, nbytes in manifest.memory.items()),
            "ram": manifest.ram_bytes,
            "flash": format_bytes(manifest.flash_bytes),
            "store": store,
            "input": "x".join(map(str, manifest.input)),
        }
    )
