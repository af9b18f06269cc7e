"""An exported folder builds with one make, alone, and is what Arduino, PlatformIO and Zephyr look for."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kilotune.codegen.boards import BOARDS

from .conftest import MANIFEST, needs

ARDUINO = """
#include <stdint.h>
struct { void begin(int) {} void println(float, int = 0) {} } Serial;
"""


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    return subprocess.run(["make", "-C", folder, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_one_make_builds_the_library(exported, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    done = make(exported, f"CC={compiler}")
    assert done.returncode == 0, done.stderr
    assert (exported / "build" / "libkilotune.a").stat().st_size > 1000


@pytest.mark.parametrize("name", BOARDS)
def test_make_builds_every_board(exported, name):
    needs(name)
    done = make(exported, f"BOARD={name}", "RAM=65536")
    assert done.returncode == 0, done.stderr
    table = dict(re.findall(r"(RAM|FLASH): +(\d+) B", done.stdout))
    assert 1024 < int(table["RAM"]) < 3000
    assert ".stack" in (exported / "build" / f"{name}.map").read_text()


def test_one_byte_too_few_fails(exported):
    needs("stm32f746")
    used = int(re.findall(r"RAM: +(\d+) B", make(exported, "BOARD=stm32f746", "RAM=65536").stdout)[0])
    assert make(exported, "-B", "BOARD=stm32f746", f"RAM={used}").returncode == 0
    done = make(exported, "-B", "BOARD=stm32f746", f"RAM={used - 1}")
    assert done.returncode != 0
    assert "region `RAM' overflowed by 1 byte" in done.stderr
    assert not (exported / "build" / "stm32f746.elf").exists(), "nothing half-written"


def test_more_beside_the_arena_than_was_set_aside_fails(exported):
    needs("stm32f746")
    used = int(re.findall(r"RAM: +(\d+) B", make(exported, "BOARD=stm32f746", "RAM=65536").stdout)[0])
    beside = used - MANIFEST.arena_bytes
    assert make(exported, "-B", "BOARD=stm32f746", f"PROGRAM={beside}").returncode == 0
    done = make(exported, "-B", "BOARD=stm32f746", f"PROGRAM={beside - 1}")
    assert done.returncode != 0
    assert "export with a larger --program" in done.stderr


def test_arduino_library(exported, tmp_path):
    """The properties that the library manager asks for; the example compiles as C++."""
    properties = dict(line.split("=", 1) for line in (exported / "library.properties").read_text().splitlines())
    assert {
        "name",
        "version",
        "author",
        "maintainer",
        "sentence",
        "paragraph",
        "category",
        "url",
        "architectures",
    } <= set(properties)
    assert (exported / "src" / properties["includes"]).exists()
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    example = exported / "examples" / "Train" / "Train.ino"
    (tmp_path / "train.cpp").write_text(ARDUINO + example.read_text())
    command = ["g++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{exported / 'src'}", tmp_path / "train.cpp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_zephyr_module_and_platformio(exported):
    module = (exported / "zephyr" / "module.yml").read_text()
    assert (exported / re.search(r"cmake: (.*)", module)[1] / "CMakeLists.txt").exists()
    assert (exported / re.search(r"kconfig: (.*)", module)[1]).exists()
    assert json.loads((exported / "library.json").read_text())["build"]["srcDir"] == "src"
    environments = re.findall(r"\[env:(\w+)\]", (exported / "platformio.ini").read_text())
    assert set(environments) <= set(BOARDS)


def test_readme_has_the_memory_table(exported):
    text = (exported / "README.md").read_text()
    assert f"| arena | {MANIFEST.memory['arena']:,} |" in text
    assert f"| **all** | **{MANIFEST.ram_bytes:,}** |" in text
    assert "{" not in text
