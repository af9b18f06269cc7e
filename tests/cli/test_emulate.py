"""``kilotune emulate`` on a project written by hand; what the emulator does is tested in ``tests/codegen/test_emulate.py``."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.codegen.conftest import MANIFEST, exported, needs  # noqa: F401

KEYS = {
    "board",
    "ram_limit_bytes",
    "arena_bytes",
    "arena_high_water_bytes",
    "stack_high_water_bytes",
    "data_bytes",
    "bss_bytes",
    "text_bytes",
    "instructions",
    "loss",
    "accuracy_before",
    "accuracy_after",
    "weights_hash",
}


@pytest.fixture
def small(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """The exported project, and beside it ``data.npz`` of its shape: the rows are brighter or darker by class."""
    monkeypatch.chdir(exported.parent)
    draws = np.random.default_rng(0)
    arrays = {}
    for part, n_images in (("train", 60), ("test", 30)):
        labels = np.arange(n_images) % 3
        rows = 40 + 170 * np.eye(3)[labels][:, :, None]
        arrays |= {f"y_{part}": labels, f"x_{part}": draws.integers(0, rows, (n_images, 3, 4)).astype(np.uint8)}
    np.savez("data.npz", **arrays)
    return exported


def test_json_has_the_stable_keys(kilotune, small):
    needs("mps2-an386")
    called = kilotune(
        "emulate", str(small), "--data", "data.npz", "--ram", "16KiB", "--samples", "60", "--epochs", "2", "--json"
    )
    result = called.json
    assert result.keys() >= KEYS
    assert result["instructions"].keys() >= {"forward", "step"}
    assert len(result["loss"]) == 120
    assert result["accuracy_before"] < result["accuracy_after"]
    assert result["arena_high_water_bytes"] == result["arena_bytes"]
    assert result["ram_bytes"] == result["data_bytes"] + result["bss_bytes"] + result["stack_bytes"]
    assert result["ram_bytes"] <= result["ram_limit_bytes"] == 16 * 1024
    assert result["program_bytes"] == result["ram_bytes"] - result["arena_bytes"]


def test_text_says_the_same(kilotune, small):
    needs("mps2-an386")
    arguments = ("emulate", str(small), "--data", "data.npz", "--samples", "30")
    text, result = kilotune(*arguments).stdout, kilotune(*arguments, "--json").json
    assert f"accuracy {result['accuracy_before']:.1%} -> {result['accuracy_after']:.1%} on 30 test images" in text
    assert f"weights hash {result['weights_hash']}, the same on this computer" in text
    assert f"{result['phases']['step']['most']:,}" in text


def test_bad_input(kilotune, small, monkeypatch):
    """One line, exit code 1, nothing on stdout."""

    def refused(*arguments: str, board: str = "mps2-an386") -> str:
        called = kilotune("emulate", str(small), "--data", "data.npz", "--board", board, *arguments)
        assert (called.code, called.stdout) == (1, "")
        return called.stderr.splitlines()[-1]

    assert "there is no board 'uno'; choose from" in refused(board="uno")
    assert "stm32f746 can be compiled for but not emulated" in refused(board="stm32f746")
    assert "netduinoplus2 has 196,608 B" in refused("--ram", "256KiB", board="netduinoplus2")
    needs("mps2-an386")
    assert "give 1088 or 1120" in refused("--ram", "1100")
    assert "more than the 1,120 B" in refused("--ram", "1120")
    msgspec.structs.replace(MANIFEST, store_bytes=8192).write(small)
    assert "netduinoplus2 has 0 B (0.0 KiB) of memory for one; choose" in refused(board="netduinoplus2")
    coloured, labels = np.zeros((30, 5, 4, 3), np.uint8), np.arange(30) % 3
    np.savez("coloured.npz", x_train=coloured, y_train=labels, x_test=coloured, y_test=labels)
    called = kilotune("emulate", str(small), "--data", "coloured.npz")
    assert "coloured.npz has images (c, h, w) with c = 3, the project takes c = 1" in called.stderr
    (small / "src" / "project.c").unlink()
    assert "building for mps2-an386 failed: " in refused()
    msgspec.structs.replace(MANIFEST, n_classes=2).write(small)
    assert "data.npz has 3 classes, the project was exported for 2" in refused()
    (small / "kilotune.json").write_text("{")
    assert "kilotune.json is damaged" in refused()
    (small / "kilotune.json").unlink()
    assert "is not an exported project" in refused()


def test_nothing_is_left_behind(kilotune, small):
    """Of an emulator that takes too long, and of a firmware that gives up: one line, the folder as it was."""
    needs("mps2-an386")
    source = small / "src" / "project.c"
    before, text = sorted(small.rglob("*")), source.read_text()
    for wrong, says in {
        'for (;;) { __asm__ volatile(""); }': "the firmware did not finish within 1 seconds; give more time, or fewer samples",
        "return KT_CORRUPT_STORE;": "start of the firmware failed: the weight store is corrupt, no commit of it is intact",
    }.items():
        source.write_text(text.replace("int kt_start(void) { return 0; }", f"int kt_start(void) {{ {wrong} }}"))
        called = kilotune("emulate", str(small), "--data", "data.npz", "--timeout", "1")
        assert (called.code, called.stdout) == (1, "")
        assert says in called.stderr.splitlines()[-1]
    assert sorted(small.rglob("*")) == before
    assert sorted(path.name for path in Path().iterdir()) == ["data.npz", "exported"]


def test_missing_tool_comes_with_its_package(kilotune, small, monkeypatch):
    monkeypatch.setenv("PATH", "")
    called = kilotune("emulate", str(small), "--data", "data.npz")
    assert called.code == 1
    assert "qemu-system-arm is not installed; on Debian: apt-get install qemu-system-arm" in called.stderr
