"""Four networks, a plan that stays and a policy that draws on the device: the same bits from gcc, clang and the board within its
RAM, nothing undefined, and an arena that is used to its last byte and no further."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from kilotune import models
from kilotune.codegen.boards import BOARDS
from kilotune.codegen.emulate import Emulation, emulate, run_on_host
from kilotune.codegen.firmware import BOARD_FILES, FLAGS, Project, build
from kilotune.codegen.host import SANITIZED, compile_objects
from kilotune.codegen.manifest import Manifest
from kilotune.codegen.numbers import WeightsDtype
from kilotune.codegen.session import Session, shuffled_order
from kilotune.codegen.tools import run_tool
from kilotune.deploy.export import Export
from kilotune.errors import BudgetError, EmulatorError
from kilotune.prune.patterns import prune_to_patterns
from kilotune.train.recipe import Recipe
from tests.codegen.conftest import needs
from tests.deploy.conftest import BlockNet, SqueezeNet, TinyVit
from tests.objects import Objects
from tests.oracles.networks import cut_to_patterns, randomise

M4F = "mps2-an386"
STATIC, DYNAMIC = "static_random", "medyate"
QUICK = ("-march=native", "-O2")
"""How the runtime is compiled for this computer: the bits are the same as with -O3, which takes longer."""
SESSION_BYTES = 1024
"""What the program around a project needs: logits, counters, the description of the store."""


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    input: tuple[int, int, int]
    budget: str
    weights_dtype: WeightsDtype
    streamed: bool = False
    cut: Callable[[nn.Module], object] = lambda model: None
    keep: str | dict[str, str] | None = None


WAYS = {
    "depth.0": "filter:2",
    "branch.0": "prune:0.2",
    "down.0": "filter:2",
    "shortcut": "pattern:2",
    "body.0": "filter:2",
    "head.1": "int4",
}
NETWORKS = {
    "mobilenet_v2": Case(lambda: models.create("mobilenet_v2_w0.35", classes=4), (3, 32, 32), "300KiB", "int8"),
    "mcunet": Case(lambda: models.create("mcunet_in1", classes=4), (3, 32, 32), "300KiB", "int8"),
    "user": Case(SqueezeNet, (3, 16, 16), "56KiB", "float32"),
    "mobilenet_v2 streamed": Case(
        lambda: models.create("mobilenet_v2_w0.35_mix", classes=4), (3, 64, 64), "128KiB", "int8", True
    ),
    "mcunet streamed": Case(lambda: models.create("mcunet_in1", classes=4), (3, 64, 64), "112KiB", "float16", True),
    "user streamed": Case(BlockNet, (3, 32, 32), "24KiB", "float32", True),
    "user patterned": Case(SqueezeNet, (3, 16, 16), "48KiB", "int8", cut=cut_to_patterns),
    "user streamed patterned": Case(BlockNet, (3, 32, 32), "24KiB", "float16", True, prune_to_patterns),
    "vit": Case(TinyVit, (3, 16, 16), "24KiB", "float32"),
    "user int8": Case(SqueezeNet, (3, 16, 16), "48KiB", "float32", keep="int8"),
    "user ways": Case(SqueezeNet, (3, 16, 16), "32KiB", "float16", keep=WAYS),
    "vit int4": Case(TinyVit, (3, 16, 16), "24KiB", "int8", keep="int4"),
}


def export(name: str, policy: str, out: Path) -> Manifest:
    """A project with random weights and logits of about 1."""
    case = NETWORKS[name]
    torch.manual_seed(0)
    model = randomise(case.make().eval())
    case.cut(model)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    head.weight.data /= model(torch.randn(8, *case.input)).abs().max()
    fields = {"budget": case.budget, "input": case.input, "streamed": case.streamed, "keep": case.keep}
    recipe = Recipe.of(policy=policy, lr=1e-3, seed=1, **fields)
    return Export(model, recipe, case.weights_dtype, accumulate=not case.streamed).write(out)


def session(name: str, policy: str) -> Session:
    """Four images, three steps, a new draw before the last one."""
    draws, shape = np.random.default_rng(0), (4, *NETWORKS[name].input)
    images = draws.standard_normal(shape).astype(np.float32)
    if NETWORKS[name].streamed:
        images = draws.integers(0, 256, shape).astype(np.uint8)
    return Session(
        images, np.arange(4), images[:1], np.arange(1), shuffled_order(4, 1, 0)[:3], 2, 2 * (policy == DYNAMIC)
    )


@pytest.fixture
def built(objects: Objects) -> Callable[..., Project]:
    """An exported project, its C compiled with other flags for other targets."""

    def make(folder: Path, compiler: str, *flags: str) -> Project:
        project = Project.of(folder)
        return replace(project, sources=tuple(objects(project.sources, folder / "src", compiler, *FLAGS, *flags)))

    return make


@pytest.fixture
def built_for(built: Callable[..., Project]) -> Callable[[Path, str], Project]:
    """The same with the flags of a board."""

    def make(folder: Path, name: str) -> Project:
        prefix, flags, _ = BOARDS[name].toolchain
        sections = ("-ffunction-sections", "-fdata-sections")
        return built(folder, f"{prefix}gcc", *sections, *flags, *BOARDS[name].flags)

    return make


def run(project: Project, folder: Path, board: str, what: Session) -> Emulation:
    """On a board with just enough RAM."""
    return emulate(project, BOARDS[board], Manifest.read(folder).ram_bytes + SESSION_BYTES, what)


@pytest.mark.parametrize("policy", [STATIC, DYNAMIC])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_everywhere_within_the_ram(tmp_path, built, built_for, name, policy):
    needs(M4F)
    folder, what = tmp_path / "project", session(name, policy)
    manifest = export(name, policy, folder)
    host = run_on_host(built(folder, "gcc", *QUICK), what)
    assert run_on_host(built(folder, "clang", *QUICK), what, "clang") == host
    assert sanitized(built(folder, "gcc", *SANITIZED), what, tmp_path) == host.weights_hash
    found = run(built_for(folder, M4F), folder, M4F, what)
    assert found.outcome == replace(host, stack_bytes=found.outcome.stack_bytes)
    assert 0 < found.outcome.stack_bytes <= manifest.stack_bytes
    assert len(set(host.loss)) == 3
    if policy == STATIC:
        assert host.arena_bytes == manifest.arena_bytes, "the ledger's fullest step fills the arena to the last byte"
    else:
        drawn = manifest.arena_bytes - manifest.memory["other draws"]
        assert 0.9 * drawn < host.arena_bytes <= manifest.arena_bytes


def sanitized(project: Project, what: Session, folder: Path) -> int:
    """The weights' hash after a session in which every access outside of its memory and all undefined behaviour ends it."""
    program = [BOARD_FILES / name for name in ("kt_session.c", "kt_external.c", "host.c")]
    include = [f"-I{place}" for place in (*project.include, BOARD_FILES)]
    run_tool(["gcc", *FLAGS, *SANITIZED, *include, *project.sources, *program, "-o", folder / "session"], "linking")
    what.write(folder)
    done = subprocess.run([folder / "session"], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split("hash ")[1].split()[0], 16)


@pytest.mark.parametrize(("policy", "n_boards"), [(STATIC, 7), (DYNAMIC, 6)])
def test_all_boards_agree(tmp_path, built, built_for, policy, n_boards):
    """The store that draws need has no place on the one board without external memory."""
    boards = [name for name, board in BOARDS.items() if board.emulator and (policy == STATIC or board.external.nbytes)]
    needs(*boards)
    what, folder = session("user", policy), tmp_path / "project"
    export("user", policy, folder)
    outcomes = [replace(run(built_for(folder, board), folder, board, what).outcome, stack_bytes=0) for board in boards]
    assert outcomes == [run_on_host(built(folder, "gcc", *QUICK), what)] * n_boards


def test_one_byte_too_few(tmp_path, built_for):
    """At plan time, and at link time; and what is written outside of the RAM nevertheless faults."""
    needs(M4F)
    recipe = Recipe.of(policy=DYNAMIC, budget="1KiB", input=(3, 16, 16))
    with pytest.raises(BudgetError) as refused:
        Export(SqueezeNet(), recipe).write(tmp_path / "project")
    least = int(re.search(r"at least ([\d,]+) B", str(refused.value))[1].replace(",", ""))
    with pytest.raises(BudgetError):
        Export(SqueezeNet(), msgspec.structs.replace(recipe, budget=str(least - 1))).write(tmp_path / "project")
    assert not (tmp_path / "project").exists()
    Export(SqueezeNet(), msgspec.structs.replace(recipe, budget=str(least))).write(tmp_path / "project")
    project, board = built_for(tmp_path / "project", M4F), BOARDS[M4F]
    with pytest.raises(EmulatorError) as refused:
        build(project, board, least, tmp_path)
    needed = int(re.search(r"needs ([\d,]+) B", str(refused.value))[1].replace(",", ""))
    build(project, board, needed, tmp_path)
    with pytest.raises(EmulatorError, match="1 B more than"):
        build(project, board, needed - 1, tmp_path)
    source = tmp_path / "project" / "src" / "kt_project.c"
    stray = f"    *(volatile float *)((uintptr_t)kt_arena + {needed // 4 * 4}) = 1.0f;\n    n_summed++;"
    source.write_text(source.read_text().replace("    n_summed++;", stray, 1))
    with pytest.raises(EmulatorError, match="the firmware faulted: access to address 0x2"):
        emulate(built_for(tmp_path / "project", M4F), board, needed, session("user", DYNAMIC))


ARDUINO = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
struct {
  void begin(int) {}
  void println(float loss, int) { printf("%f\\n", loss); }
  void println(int code) { exit(-code); }
} Serial;
"""


@pytest.mark.parametrize("policy", [STATIC, DYNAMIC])
def test_the_sketch_trains(tmp_path, policy):
    """The example for Arduino, as it is, on this computer: its loss falls, over draws if there are some."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path / "project"
    export("user", policy, folder)
    compile_objects(sorted((folder / "src").glob("*.c")), folder / "src", tmp_path, ("-O1",))
    main = "int main() { setup(); for (int i = 0; i < 250; i++) { loop(); } }"
    (tmp_path / "train.cpp").write_text(ARDUINO + (folder / "examples/Train/Train.ino").read_text() + main)
    command = [
        "g++",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{folder / 'src'}",
        tmp_path / "train.cpp",
        *tmp_path.glob("*.o"),
    ]
    subprocess.run([*command, "-o", tmp_path / "train"], check=True)
    done = subprocess.run([tmp_path / "train"], check=True, capture_output=True, text=True, timeout=300)
    losses = [float(line) for line in done.stdout.split()]
    assert len(losses) == 250
    assert losses[-1] < losses[100] < losses[0]


@pytest.mark.parametrize("name", ["stm32f746", "stm32h743"])
def test_the_folder_builds_alone(tmp_path, name):
    """One make, for a board that is compiled only; in its link map the arena has its bytes in RAM, weights are in flash."""
    needs(name)
    if shutil.which("make") is None:
        pytest.skip("needs make")
    folder, board = tmp_path / "project", BOARDS[name]
    manifest = export("user", DYNAMIC, folder)
    ram = manifest.ram_bytes + SESSION_BYTES
    done = subprocess.run(
        ["make", "-C", folder, f"BOARD={name}", f"RAM={ram}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    again = ["make", "-C", folder, f"BOARD={name}"]
    linked = (folder / "build" / f"{name}.elf").stat().st_mtime_ns
    subprocess.run([*again, f"RAM={ram}"], capture_output=True, check=True)
    assert (folder / "build" / f"{name}.elf").stat().st_mtime_ns == linked
    assert subprocess.run([*again, "RAM=4096"], capture_output=True, check=False).returncode != 0, "linked again"
    subprocess.run([*again, f"RAM={ram}"], capture_output=True, check=True)
    link_map = (folder / "build" / f"{name}.map").read_text()
    sections = {
        section: (int(address, 16), int(nbytes, 16))
        for section, address, nbytes in re.findall(r"^ (\.\S+)\s+(0x\w+)\s+(0x\w+) ", link_map, re.MULTILINE)
    }
    address, nbytes = sections[".bss.kt_arena"]
    assert nbytes == manifest.arena_bytes
    assert board.ram.origin <= address < address + nbytes <= board.ram.origin + ram
    weights = {section: place for section, place in sections.items() if section.startswith(".rodata.weight")}
    assert sum(nbytes for _, nbytes in weights.values()) > 0.8 * manifest.flash_bytes
    flash_end = board.flash.origin + board.flash.nbytes
    assert all(board.flash.origin <= address < address + nbytes < flash_end for address, nbytes in weights.values())
