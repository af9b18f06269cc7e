"""Plots of runs as PNG. Needs matplotlib, an extra: ``pip install kilotune[plot]``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilotune.errors import KilotuneError
from kilotune.graph.node import Graph
from kilotune.memory.ledger import LedgerReport
from kilotune.report.breakdown import KINDS, Breakdown
from kilotune.train.files import write_atomic
from kilotune.train.record import EpochFigures, Record
from kilotune.units import format_bytes, kib
from kilotune.update_plan import ChannelSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
MAX_BARS = 45  # Beyond this many layers or epochs only every other label, or every third, is written.
_COLORS = dict(zip(KINDS, ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"), strict=True))
_MARKERS = "osD^vP*X"
_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches. Raises KilotuneError if matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise KilotuneError("plots need matplotlib, which is not installed; pip install kilotune[plot]") from error
    mpl.rcParams.update(_STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write ``figure`` as PNG. Raises TrainingError if the disk refuses."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_atomic(path, buffer.getvalue())
    return path


def plot_bytes(title: str, layers: Breakdown, report: LedgerReport) -> "Figure":
    """Bytes by kind: what each layer adds, and what the fullest step consists of."""
    figure = new_figure(12, max(3.6, 1.4 + 0.21 * len(layers)))
    left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
    names = list(layers)
    start = np.zeros(len(names))
    for kind in KINDS:
        widths = np.array([kib(layers[name][kind]) for name in names])
        if widths.any():
            left.barh(names, widths, left=start, color=_COLORS[kind], label=kind, height=0.8)
        start += widths
    left.margins(y=0.01)
    left.invert_yaxis()
    left.set(xlabel="KiB", title="what each layer adds")
    left.legend(loc="best", frameon=False)
    _plot_composition(right, report)
    figure.suptitle(title)
    return figure


def _plot_composition(axes: "Axes", report: LedgerReport) -> None:
    kinds = sorted(((kind, nbytes) for kind, nbytes in report.by_kind.items() if nbytes), key=lambda item: -item[1])
    bars = axes.barh([kind for kind, _ in kinds], [kib(nbytes) for _, nbytes in kinds], color="#888888", height=0.7)
    axes.bar_label(bars, [f"{nbytes:,} B" for _, nbytes in kinds], padding=3)
    axes.margins(x=0.4, y=0.01)
    axes.invert_yaxis()
    axes.set(xlabel="KiB", title=f"the fullest step\n{format_bytes(report.total_bytes)}")


def plot_channels(title: str, graph: Graph, epochs: Sequence[EpochFigures]) -> "Figure":
    """Share of each layer's channels in the first plan of each epoch, and how many different ones were seen in all."""
    chosen = [{one.layer: one for one in epoch.channels} for epoch in epochs]
    names = [layer.name for layer in graph.layers if any(layer.name in sets for sets in chosen)]
    shares = np.array([[_share(graph, sets.get(name)) for sets in chosen] for name in names]).reshape(len(names), -1)
    figure = new_figure(max(9, 6 + 0.22 * len(epochs)), max(3, 1.4 + 0.21 * len(names)))
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_equal(shares, 0), aspect="auto", cmap="viridis_r", vmin=0)
    axes.set_facecolor("#eeeeee")
    axes.set_yticks(range(len(names)), names)
    every = -(-len(epochs) // MAX_BARS)
    axes.set_xticks(range(0, len(epochs), every), [str(epoch.epoch) for epoch in epochs[::every]])
    axes.set(xlabel="epoch")
    figure.suptitle(title)
    seen = axes.secondary_yaxis("right")
    seen.set_yticks(range(len(names)), [_seen(graph, name, chosen) for name in names])
    seen.set_ylabel("different channels seen, of all")
    seen.tick_params(length=0)
    label = "share of the layer's channels (grey: none)"
    figure.colorbar(image, ax=axes, label=label, pad=0.02, format=percent())
    return figure


def count_distinct(graph: Graph, epochs: Sequence[EpochFigures]) -> dict[str, tuple[int, int]]:
    """By layer: different channels in the first plans of all epochs, and channels there are; layers never chosen left out."""
    chosen = [{one.layer: one for one in epoch.channels} for epoch in epochs]
    return {
        layer.name: _distinct(graph, layer.name, chosen)
        for layer in graph.layers
        if any(layer.name in sets for sets in chosen)
    }


def _share(graph: Graph, one: ChannelSet | None) -> float:
    return 0.0 if one is None else len(one.indices) / _n_channels(graph, one)


def _n_channels(graph: Graph, one: ChannelSet) -> int:
    layer = graph.layer[one.layer]
    return {"in": layer.in_channels, "out": layer.out_channels}[one.axis]


def _distinct(graph: Graph, name: str, chosen: Sequence[Mapping[str, ChannelSet]]) -> tuple[int, int]:
    sets = [plan[name] for plan in chosen if name in plan]
    return len({index for one in sets for index in one.indices}), max(_n_channels(graph, one) for one in sets)


def _seen(graph: Graph, name: str, chosen: Sequence[Mapping[str, ChannelSet]]) -> str:
    n_seen, n_channels = _distinct(graph, name, chosen)
    return f"{n_seen}/{n_channels}"


def plot_curves(records: Mapping[str, Record]) -> "Figure":
    """Training loss, validation loss and accuracy over epochs, a colour for each run."""
    figure = new_figure(11, 4.2)
    losses, accuracies = figure.subplots(1, 2)
    for number, (name, record) in enumerate(records.items()):
        color = f"C{number % 10}"
        epochs = [epoch.epoch for epoch in record.epochs]
        losses.plot(epochs, [epoch.loss for epoch in record.epochs], color=color, marker=".", label=name)
        losses.plot(epochs, [epoch.val_loss for epoch in record.epochs], color=color, linestyle=":")
        before = [] if record.accuracy_before is None else [(0, record.accuracy_before)]
        points = [*before, *((epoch.epoch, epoch.accuracy) for epoch in record.epochs)]
        accuracies.plot(*zip(*points, strict=True) if points else ([], []), color=color, marker=".", label=name)
    losses.set(xlabel="epoch", ylabel="loss", title="loss: training (line), validation (dotted)")
    accuracies.set(xlabel="epoch", title="accuracy on validation images; epoch 0: before training")
    accuracies.yaxis.set_major_formatter(percent())
    losses.yaxis.get_major_formatter().set_useOffset(False)
    for axes in (losses, accuracies):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    accuracies.legend(loc="lower right", frameon=False)
    return figure


@dataclass(frozen=True)
class Point:
    """What a run reached and what it cost at worst."""

    label: str
    accuracy: float
    selection_bytes: int
    total_bytes: int


def plot_accuracy_against_bytes(points: Sequence[Point]) -> "Figure":
    """Accuracy against the bytes of either ledger, a colour and a sign for each run."""
    figure = new_figure(11, 4.6)
    total, selection = figure.subplots(1, 2, sharey=True)
    for number, point in enumerate(points):
        look = {"marker": _MARKERS[number % len(_MARKERS)], "color": f"C{number % 10}", "markersize": 8, "alpha": 0.75}
        total.plot(kib(point.total_bytes), point.accuracy, linestyle="", label=point.label, **look)
        selection.plot(kib(point.selection_bytes), point.accuracy, linestyle="", label=point.label, **look)
    for axes, ledger in ((total, "total"), (selection, "selection")):
        axes.set(xlabel=f"{ledger} ledger, worst case, KiB")
        axes.margins(x=0.1, y=0.15)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    total.set(ylabel="accuracy after the last epoch")
    total.yaxis.set_major_formatter(percent())
    figure.legend(*total.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def percent() -> Any:
    """A formatter of shares as percent."""
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0)
