"""``kilotune export`` and ``kilotune verify``."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import MODEL

EXPORT = ("export", MODEL, "--input", "1x8x8", "--budget", "8KiB")


@pytest.fixture
def needs_compilers():
    if shutil.which("gcc") is None or shutil.which("clang") is None:
        pytest.skip("needs gcc and clang")


def test_a_project_says_what_it_takes(folder, kilotune):
    result = kilotune(*EXPORT, "--out", "firmware", "--weights-dtype", "int8", "--policy", "classifier", "--json").json
    assert result["dir"] == "firmware"
    assert sum(result["memory"].values()) == result["ram_bytes"]
    assert result["arena_bytes"] == result["ram_bytes"] - result["memory"]["tables"] - result["memory"]["stack"]
    planned = kilotune("plan", MODEL, "--input", "1x8x8", "--budget", "8KiB", "--policy", "classifier", "--json").json
    assert result["arena_bytes"] == planned["total"]["bytes"]
    assert f"#define KT_ARENA_BYTES {result['arena_bytes']}\n" in Path("firmware/src/kt_project.h").read_text()
    assert {path.name for path in Path("firmware").iterdir()} >= {"src", "Makefile", "README.md", "kilotune.json"}


def test_nothing_half_written(folder, kilotune):
    Path("taken").mkdir()
    Path("taken/file").touch()
    called = kilotune(*EXPORT, "--out", "taken")
    assert called.code == 1
    assert "taken is not an empty folder" in called.stderr
    assert kilotune(*EXPORT, "--out", "new", "--optimizer", "adam").code == 1
    assert not Path("new").exists()
    assert [path for path in Path().iterdir() if path.name.startswith(".new")] == []


def test_a_policy_that_draws_anew_needs_a_store(folder, kilotune):
    drawing = (*EXPORT, "--policy", "random")
    without = kilotune(*drawing, "--out", "firmware", "--store", "0")
    assert without.code == 1
    assert "there is no weight store" in without.stderr
    small = kilotune(*drawing, "--out", "firmware", "--store", "4KiB")
    assert small.code == 1
    assert "two banks of which take 16,384 B" in small.stderr
    assert not Path("firmware").exists()
    assert kilotune(*drawing, "--out", "firmware", "--store", "16KiB", "--json").json["store_bytes"] == 16384
    assert (
        kilotune(*EXPORT, "--out", "static", "--policy", "classifier", "--store", "0", "--json").json["store_bytes"]
        == 0
    )


def test_verify(folder, kilotune, needs_compilers):
    assert kilotune(*EXPORT, "--out", "firmware").code == 0
    result = kilotune("verify", "firmware", "--compiler", "gcc", "--json").json
    assert result["ok"]
    assert result["first_divergence"] is None
    assert result["steps"] == len(result["loss_c"]) == len(result["loss_torch"]) == 100
    weights = Path("firmware/src/kt_weights.c")
    weights.write_text(weights.read_text().replace("0x1.", "0x3.", 1))
    called = kilotune("verify", "firmware", "--compiler", "gcc")
    assert called.code == 1
    assert "first divergence: activation of" in called.stdout


def test_the_reference_is_plain_data(folder, kilotune):
    kilotune(*EXPORT, "--out", "firmware", "--lr", "0.5")
    reference = json.loads(Path("firmware/reference/reference.json").read_text())
    assert reference["learning_rate"] == 0.5
    assert reference["model"] == MODEL


def test_all_operations_without_a_kernel_are_told(folder, kilotune):
    called = kilotune("export", "cli_network:gelu", "--input", "1x8x8", "--budget", "64KiB", "--out", "firmware")
    assert called.code == 1
    assert (
        "has 1 operations that cannot become C:\n  activation -> 4x6x6 in 1: there is no kernel for gelu"
        in called.stderr
    )
