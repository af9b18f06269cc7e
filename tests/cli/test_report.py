"""``compare`` and ``report`` on runs made by ``finetune``."""

import shutil
from pathlib import Path

import pytest

TUNE = (
    "finetune", "--model", "cli_network:make", "--data", "data.npz", "--input", "1x8x8", "--batch-size", "8",
    "--augment", "none", "--lr", "0.01",
)  # fmt: skip


@pytest.fixture
def runs(kilotune, folder) -> list[str]:
    """Two seeds of one recipe, and a run of another length."""
    for name, rest in {"a": ("--seed", "0"), "b": ("--seed", "1"), "c": ("--epochs", "1")}.items():
        epochs = () if name == "c" else ("--epochs", "2")
        assert kilotune(*TUNE, "--budget", "8KiB", "--out", name, *epochs, *rest).code == 0
    return ["a", "b", "c"]


def test_compare(kilotune, runs):
    result = kilotune("compare", *runs, "--json").json
    assert [row["run"] for row in result["rows"]] == runs
    assert [group["seeds"] for group in result["groups"]] == [[0, 1], [0]]
    assert [row["differs"] for row in result["rows"]] == [[], [], ["epochs"]]
    assert all(row["total_bytes"] <= 8192 for row in result["rows"])
    text = kilotune("compare", *runs).stdout
    assert "±" in text
    assert "* c: another epochs" in text


def test_compare_what_is_no_run(kilotune, folder):
    called = kilotune("compare", "nowhere")
    assert (called.code, called.stdout) == (1, "")
    assert "nowhere is not a run folder" in called.stderr
    assert kilotune("compare").code == 2


def test_report(kilotune, runs):
    pytest.importorskip("matplotlib", reason="plots need matplotlib; make test installs it")
    result = kilotune("report", *runs, "--out", "plots", "--json").json
    names = [f"{run}-{kind}.png" for run in runs for kind in ("bytes", "channels")]
    assert [Path(path).name for path in result["plots"]] == [*names, "curves.png", "accuracy_bytes.png"]
    assert all(Path(path).is_file() for path in result["plots"])
    assert result["left_out"] == []
    assert set(result["distinct_channels"]) == set(runs)


def test_runs_of_the_same_name_do_not_overwrite_each_other(kilotune, runs):
    pytest.importorskip("matplotlib", reason="plots need matplotlib; make test installs it")
    shutil.copytree("a", "elsewhere/a")
    result = kilotune("report", "a", "elsewhere/a", "--out", "plots", "--json").json
    assert len(set(result["plots"])) == 6


def test_report_without_matplotlib(kilotune, runs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    called = kilotune("report", "a", "--out", "plots")
    assert called.code == 1
    assert "pip install kilotune[plot]" in called.stderr
    assert not Path("plots").exists()
