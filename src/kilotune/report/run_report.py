"""The plots of runs, from their folders."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.errors import RunError, TrainingError
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory.ledger import ledger
from kilotune.report import plots
from kilotune.report.breakdown import breakdown
from kilotune.report.compare import read_runs
from kilotune.train.checkpoint import Checkpoint
from kilotune.train.record import Record
from kilotune.train.run import Run, open_run
from kilotune.train.selection import accounting_of
from kilotune.units import DTYPE_BYTES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Written:
    """Files that were written, what could not be drawn and why, and by run and layer (channels ever chosen, channels)."""

    plots: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    distinct_channels: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)


def report_runs(paths: Sequence[Path], out: Path) -> Written:
    """Write all plots of the runs in ``paths`` into ``out``.

    Raises KilotuneError without matplotlib, RunError if a path is no run folder, TrainingError if the disk refuses. What
    needs the network is left out for runs of a model that was a Python object.
    """
    records = read_runs(paths)
    plots.new_figure(1, 1)  # Better to fail before the work than after it.
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the folder {out}: {error.strerror}; choose another with --out") from error
    named = dict(zip(_short_names(list(records)), records.items(), strict=True))
    written = Written()
    for name, (path, record) in named.items():
        _report_one(name, Path(path), record, out, written)
    together = {name: record for name, (_, record) in named.items() if record.epochs}
    if together:
        written.plots.append(plots.save_figure(plots.plot_curves(together), out / "curves.png"))
        figure = plots.plot_accuracy_against_bytes([_point(name, record) for name, record in together.items()])
        written.plots.append(plots.save_figure(figure, out / "accuracy_bytes.png"))
    else:
        written.left_out.append("no curves: no run has finished an epoch")
    return written


def _report_one(name: str, path: Path, record: Record, out: Path, written: Written) -> None:
    try:
        run = open_run(path)
    except RunError as error:
        written.left_out.append(f"no plots of the layers of {name}: {error}")
        return
    graph = capture(run.model, run.example)
    title = f"{record.recipe.model} at {'x'.join(map(str, record.recipe.input or ()))}, {record.recipe.policy}"
    written.plots.append(plots.save_figure(_bytes_figure(run, graph, title), out / f"{name}-bytes.png"))
    if any(epoch.channels for epoch in record.epochs):
        written.distinct_channels[name] = plots.count_distinct(graph, record.epochs)
        figure = plots.plot_channels(f"{title}, first plan of each epoch", graph, record.epochs)
        written.plots.append(plots.save_figure(figure, out / f"{name}-channels.png"))
    else:
        written.left_out.append(f"no plot of the channels of {name}: policy {record.recipe.policy} chooses none")


def _bytes_figure(run: Run, graph: Graph, title: str) -> "Figure":
    plan = Checkpoint.read(run.folder.checkpoint).plan
    accounting = accounting_of(run.record.recipe)
    report = ledger(graph, plan, accounting=accounting)
    return plots.plot_bytes(f"{title}: last plan, batch 1", breakdown(graph, plan, accounting), report)


def _point(name: str, record: Record) -> plots.Point:
    figures = record.ledger
    selection_bytes = figures.worst_selection_elements * DTYPE_BYTES["float32"]
    return plots.Point(name, record.accuracy or 0.0, selection_bytes, figures.worst_total_bytes)


def _short_names(paths: Sequence[str]) -> list[str]:
    """Folder names; with a number in front where two are the same."""
    names = [Path(path).resolve().name for path in paths]
    repeated = {name for name in names if names.count(name) > 1}
    return [f"{index}-{name}" if name in repeated else name for index, name in enumerate(names, start=1)]
