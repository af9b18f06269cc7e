import pytest

from kilotune.codegen.boards import BOARDS, find_board
from kilotune.errors import EmulatorError


def test_regions_do_not_overlap():
    for board in BOARDS.values():
        regions = sorted(r for r in (board.vectors, board.flash, board.ram, board.external) if r.nbytes)
        ends = [region.origin + region.nbytes for region in regions]
        assert all(end <= after.origin for end, after in zip(ends, regions[1:], strict=False)), board.name


def test_unknown_board_lists_all():
    with pytest.raises(EmulatorError, match=r"no board 'uno'; choose from mps2-an386 \(Cortex-M4F\), .*rv32-virt"):
        find_board("uno")


def test_a_store_needs_a_place():
    find_board("mps2-an386").check_store(100_000)
    find_board("netduinoplus2").check_store(0)
    with pytest.raises(
        EmulatorError, match=r"commits to a weight store of 8,192 B .* netduinoplus2 has 0 B .* for one; choose"
    ):
        find_board("netduinoplus2").check_store(8192)


def test_a_limit_is_within_the_board():
    board = find_board("netduinoplus2")
    assert board.ram_limit(None) == 192 * 1024
    assert board.ram_limit(100_000) == 100_000
    with pytest.raises(EmulatorError, match=r"protected in steps of 32 B only; give 99968 or 100000"):
        board.ram_limit(99_999)
    with pytest.raises(EmulatorError, match=r"netduinoplus2 has 196,608 B .* 262,144 B .* were asked for"):
        board.ram_limit(256 * 1024)
