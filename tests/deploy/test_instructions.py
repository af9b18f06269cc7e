"""What a training step costs in instructions is recorded; more of them need a reason, and a new record."""

import json
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def check(name: str, board: str) -> None:
    """A case of ``benchmarks/emulated.py`` on a board."""
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    spec = spec_from_file_location("emulated", BENCHMARKS / "emulated.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    recorded = json.loads((BENCHMARKS / "results" / f"emulated_{name}.json").read_text())
    compiler, emulator = (script.version(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm"))
    if recorded["tools"] != [compiler, emulator]:
        pytest.skip(f"recorded with {recorded['tools']}")
    found = script.run(script.CASES[name]._replace(boards=(board,)))
    for phase in ("forward", "step", "update", "redraw"):
        now, then = (counts["boards"][board]["phases"][phase]["total"] for counts in (found, recorded))
        assert now <= then, (
            f"{phase} needs {now:,} instructions, recorded are {then:,}: say why in the commit, and run "
            f"`python benchmarks/emulated.py {name}`; run it too after an improvement"
        )
    assert len({one["weights_hash"] for one in recorded["boards"].values()}) == 1


def test_a_step_needs_no_more_than_recorded():
    pytest.importorskip("sklearn")
    check("digits", "mps2-an386")


def test_the_work_that_the_best_peer_was_measured_on_needs_no_more_than_recorded(data_root):
    check("sparse_update", "mps2-an500")
