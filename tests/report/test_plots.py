"""Plots: what is drawn is what was recorded, and without matplotlib there is one clear sentence."""

import sys
from functools import cache

import pytest
import torch
from torch import nn

from kilotune.errors import KilotuneError
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import ledger
from kilotune.report.breakdown import breakdown
from kilotune.train.recipe import Recipe
from kilotune.train.record import EpochFigures, LedgerFigures, Record
from kilotune.update_plan import ChannelSet, UpdatePlan

pytest.importorskip("matplotlib", reason="plots need matplotlib; make test installs it")

from kilotune.report import plots

SETS = (
    (ChannelSet("0", "in", (0, 2)), ChannelSet("2", "in", (1, 2, 3))),
    (ChannelSet("2", "in", (3, 4)),),
)


@cache
def graph() -> Graph:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4))
    return capture(model, torch.zeros(1, 3, 8, 8))


def epochs() -> list[EpochFigures]:
    return [
        EpochFigures(
            epoch=number + 1, loss=2.0 - number, accuracy=0.5 + number / 10, val_loss=2.1 - number, lr=0.1, seconds=1.0,
            selection_elements=10, total_bytes=1000, plans=1, channels=channels,
        )
        for number, channels in enumerate(SETS)
    ]  # fmt: skip


def record() -> Record:
    figures = LedgerFigures(
        selection_elements=9,
        selection_bytes=36,
        saved_bytes=50,
        total_bytes=900,
        worst_selection_elements=10,
        worst_total_bytes=1000,
    )
    run = Record(
        recipe=Recipe.of(input=[3, 8, 8]), ledger=figures, base_sha256="", versions={}, commit=None, hardware={}
    )
    run.accuracy_before = 0.25
    run.epochs = epochs()
    return run


def test_distinct_channels_are_counted_over_epochs():
    assert plots.count_distinct(graph(), epochs()) == {"0": (2, 3), "2": (4, 8)}


def test_the_heat_map_shows_shares_and_channels_seen():
    figure = plots.plot_channels("title", graph(), epochs())
    axes = figure.axes[0]
    assert axes.images[0].get_array().filled(0).tolist() == [[2 / 3, 0], [3 / 8, 2 / 8]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "2"]
    seen = axes.child_axes[0]
    assert [text.get_text() for text in seen.get_yticklabels()] == ["2/3", "4/8"]


def test_bars_are_as_long_as_the_ledger_says():
    plan, accounting = UpdatePlan(SETS[0]), Accounting()
    layers = breakdown(graph(), plan, accounting)
    left, right = plots.plot_bytes("title", layers, ledger(graph(), plan)).axes
    drawn = sum(bar.get_width() for bar in left.patches) * 1024
    assert drawn == pytest.approx(sum(sum(kinds.values()) for kinds in layers.values()))
    assert sum(bar.get_width() for bar in right.patches) * 1024 == pytest.approx(ledger(graph(), plan).total_bytes)


def test_curves_start_before_training():
    losses, accuracies = plots.plot_curves({"run": record()}).axes
    assert losses.lines[0].get_ydata().tolist() == [2.0, 1.0]
    assert losses.lines[1].get_ydata().tolist() == [2.1, 1.1]
    assert accuracies.lines[0].get_xydata().tolist() == [[0, 0.25], [1, 0.5], [2, 0.6]]


def test_accuracy_against_both_ledgers():
    total, selection = plots.plot_accuracy_against_bytes([plots.Point("a", 0.5, 1024, 4096)]).axes
    assert total.lines[0].get_xydata().tolist() == [[4, 0.5]]
    assert selection.lines[0].get_xydata().tolist() == [[1, 0.5]]


def test_files_are_png(tmp_path):
    path = plots.save_figure(plots.plot_curves({"run": record()}), tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(KilotuneError, match=r"pip install kilotune\[plot\]"):
        plots.new_figure(1, 1)
