"""Programs for boards: everything in RAM within the limit, to the byte."""

from dataclasses import replace

import pytest

from kilotune.codegen.boards import BOARDS, Region
from kilotune.codegen.firmware import PHASES, build
from kilotune.errors import EmulatorError

from .conftest import needs

ROOMY = 64 * 1024


@pytest.mark.parametrize("name", ["mps2-an386", "rv32-virt"])
def test_one_byte_too_small_fails_at_link(make_project, name, tmp_path):
    needs(name)
    project, board = make_project(), BOARDS[name]
    sizes = build(project, board, ROOMY, tmp_path).sizes
    assert sizes.stack == 1024
    assert build(project, board, sizes.ram, tmp_path).sizes == sizes
    with pytest.raises(EmulatorError, match=rf"needs {sizes.ram:,} B .* of RAM on {name}, 1 B more than"):
        build(project, board, sizes.ram - 1, tmp_path)


def test_what_is_beside_the_arena_stays_within_what_the_budget_sets_aside(make_project, tmp_path):
    needs("mps2-an386")
    project, board = replace(make_project(), arena_bytes=12), BOARDS["mps2-an386"]
    beside = build(project, board, ROOMY, tmp_path).sizes.ram - 12
    build(replace(project, program_bytes=beside), board, ROOMY, tmp_path)
    said = rf"take {beside:,} B on mps2-an386, the budget sets {beside - 1:,} B aside.*export with --program {beside},"
    with pytest.raises(EmulatorError, match=said):
        build(replace(project, program_bytes=beside - 1), board, ROOMY, tmp_path)


def test_too_little_flash_says_how_much(make_project, tmp_path):
    needs("mps2-an386")
    board = replace(BOARDS["mps2-an386"], flash=Region(0x400, 2048))
    with pytest.raises(
        EmulatorError, match=r"the project needs [\d,]+ B .* of flash on mps2-an386, [\d,]+ B more than"
    ):
        build(make_project(), board, ROOMY, tmp_path)


@pytest.mark.parametrize("name", ["stm32f746", "stm32h743"])
def test_boards_that_are_compiled_only(make_project, name, tmp_path):
    needs(name)
    firmware = build(make_project(), BOARDS[name], ROOMY, tmp_path)
    flash = BOARDS[name].flash
    assert firmware.phases.keys() == set(PHASES)
    assert all(
        flash.origin <= address < flash.origin + flash.nbytes for pair in firmware.phases.values() for address in pair
    )
    assert 0 < firmware.sizes.text < flash.nbytes


def test_the_compiler_s_complaint_is_shown(make_project, tmp_path):
    needs("mps2-an386")
    with pytest.raises(
        EmulatorError, match=r"building for mps2-an386 failed: .*project.c:.* error: 'nothing' undeclared"
    ):
        build(make_project(start="return nothing"), BOARDS["mps2-an386"], ROOMY, tmp_path)
