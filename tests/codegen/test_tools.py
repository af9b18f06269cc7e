import shutil
import sys

import pytest

from kilotune.codegen.boards import BOARDS
from kilotune.codegen.tools import PACKAGES, find_tool, run_tool
from kilotune.errors import EmulatorError


def test_what_is_missing_comes_with_its_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EmulatorError, match="arm-none-eabi-gcc is not installed; on Debian: apt-get install gcc-arm"):
        find_tool("arm-none-eabi-gcc")


def test_every_tool_of_a_board_has_a_package():
    for board in BOARDS.values():
        assert {f"{board.toolchain.prefix}{tool}" for tool in ("gcc", "nm", "size")} <= PACKAGES.keys()
        assert set(board.emulator[:1]) <= PACKAGES.keys()


def test_a_compiler_says_what_it_dislikes(tmp_path):
    find_tool("gcc")
    (tmp_path / "wrong.c").write_text("int f(void) { return x; }\n")
    with pytest.raises(EmulatorError, match=r"building failed: .*wrong.c:1:22: error: 'x' undeclared|‘x’ undeclared"):
        run_tool(["gcc", "-c", tmp_path / "wrong.c", "-o", tmp_path / "wrong.o"], "building")


def test_ctrl_c_does_not_reach_a_compiler():
    """It goes to the session of the terminal; the compiler has one of its own."""
    own = run_tool([sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"], "asking")
    assert own.strip() == "True"
