"""Sessions under QEMU: the same bits as on the host, the same number of instructions each time, faults outside the limit."""

from dataclasses import replace

import pytest

from kilotune.codegen.boards import BOARDS
from kilotune.codegen.emulate import compare, emulate, run_on_host
from kilotune.errors import EmulatorError

from .conftest import needs

RAM = 64 * 1024
M4F = "mps2-an386"
EMULATED = [name for name, board in BOARDS.items() if board.emulator]


@pytest.mark.parametrize("name", EMULATED)
def test_every_board_gives_the_bits_of_the_host(make_project, session, name):
    needs(name)
    project = make_project()
    host = run_on_host(project, session)
    found = emulate(project, BOARDS[name], RAM, session)
    assert found.outcome == replace(host, stack_bytes=found.outcome.stack_bytes)
    assert 0 < found.outcome.stack_bytes < project.stack_bytes
    assert len(host.loss) == 80
    assert host.n_right_before < host.n_right_after
    calls = {phase: count.calls for phase, count in found.instructions.items()}
    assert calls == {"start": 1, "forward": 40, "step": 80, "update": 20, "redraw": 1, "save": 1, "all": 1}


def test_instruction_counts_are_the_same_every_time(make_project, session):
    needs(M4F)
    first, second = (emulate(make_project(), BOARDS[M4F], RAM, session).instructions for _ in range(2))
    assert first == second
    step = first["step"]
    assert 300 < step.fewest <= step.most < 1000
    assert step.total < first["all"].total


@pytest.mark.parametrize("name", [M4F, "mps2-an505", "rv32-virt"])
def test_a_store_beyond_the_limit_faults(make_project, session, name):
    """The last word inside works, the first one outside does not, on each kind of protection unit."""
    needs(name)
    stray = '#include "kt_board.h"\n'
    poke = "volatile uint32_t *end = (volatile uint32_t *)((uintptr_t)kt_ram_limit + {}); *end = 1; return 0"
    inside = emulate(make_project(redraw=poke.format(-4), before=stray), BOARDS[name], RAM, session)
    assert len(inside.outcome.loss) == 80
    first = BOARDS[name].ram.origin + RAM
    with pytest.raises(EmulatorError, match=f"the firmware faulted: access to address 0x{first:08x}"):
        emulate(make_project(redraw=poke.format(0), before=stray), BOARDS[name], RAM, session)


def test_a_stack_that_grows_too_deep_faults(make_project, session):
    """The stack lies at the bottom of the RAM: what is below it is nobody's."""
    needs(M4F)
    deep = "volatile char page[2048]; for (int i = 0; i < 2048; i++) { page[i] = 0; } return page[0]"
    with pytest.raises(EmulatorError, match="the firmware faulted"):
        emulate(make_project(redraw=deep), BOARDS[M4F], RAM, session)


def test_an_endless_loop_is_stopped(make_project, session):
    needs(M4F)
    with pytest.raises(EmulatorError, match="did not finish within 1 seconds; give more time, or fewer samples"):
        emulate(make_project(redraw="for (volatile int i = 0;; i++) { }"), BOARDS[M4F], RAM, session, timeout=1.0)


def test_an_answer_that_breaks_off_is_said(make_project, session):
    needs(M4F)
    quits = "kt_board_exit(0)"
    project = make_project(redraw=quits, before='#include "kt_board.h"\n')
    with pytest.raises(EmulatorError, match="the firmware stopped before it was done, after 40 steps: loss"):
        emulate(project, BOARDS[M4F], RAM, session)


def test_codes_of_the_firmware_are_put_into_words(make_project, session):
    needs(M4F)
    with pytest.raises(EmulatorError, match="start of the firmware failed: the weight store is corrupt"):
        emulate(make_project(start="return KT_CORRUPT_STORE"), BOARDS[M4F], RAM, session)
    wrong = replace(session, train_labels=session.train_labels + 7)
    with pytest.raises(EmulatorError, match="train_step of the firmware failed: a label is out of range"):
        emulate(make_project(), BOARDS[M4F], RAM, wrong)


def test_a_board_without_emulator_is_refused(make_project, session):
    with pytest.raises(EmulatorError, match="stm32f746 can be compiled for but not emulated"):
        emulate(make_project(), BOARDS["stm32f746"], RAM, session)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_host_compilers_agree(make_project, session, compiler):
    assert run_on_host(make_project(), session, compiler) == run_on_host(make_project(), session)


def test_the_first_step_that_differs_is_named(make_project, session):
    host = run_on_host(make_project(), session)
    compare(host, host, M4F)
    losses = list(host.loss)
    losses[3] += 1
    with pytest.raises(EmulatorError, match=r"mps2-an386 and this computer differ in the loss of step 3: .* and "):
        compare(replace(host, loss=tuple(losses)), host, M4F)
    with pytest.raises(EmulatorError, match="differ in the weights: hashes 00000001 and"):
        compare(replace(host, weights_hash=1), host, M4F)
