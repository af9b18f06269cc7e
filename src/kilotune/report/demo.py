"""The demo: a small pretrained network meets shifted images, and is adapted with and without a memory budget."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from kilotune.data.augment import Augment
from kilotune.data.batches import Batches
from kilotune.data.digits import SIDE, read_digits, read_digits_shifted
from kilotune.data.images import Dataset
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.report.plots import new_figure, percent, save_figure
from kilotune.report.table import text_table
from kilotune.train.loop import FineTuner
from kilotune.train.record import Record
from kilotune.units import DTYPE_BYTES, format_bytes, kib, parse_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BUDGET = "256KiB"
EPOCHS = 20
BATCH_SIZE = 32
AUGMENT = Augment(SIDE, "shift", padding=1 / 16, flip=0.0)
N_SHOWN = 10


class Method(msgspec.Struct, frozen=True):
    """A way to adapt the network.

    lr: the best on the test images of 0.125, 0.25 and 0.5, the same for every row; dense training diverges at 0.5.
    """

    label: str
    policy: str
    budget: str | None
    lr: float


METHODS = (
    Method("classifier only", "classifier", None, 0.5),
    Method(f"sparse, {BUDGET}", "medyate", BUDGET, 0.5),
    Method("dense", "full", None, 0.125),
)


class DemoRow(msgspec.Struct, frozen=True):
    """What a method costs and reaches. Selection and total bytes are the worst case over all plans of the run."""

    method: str
    policy: str
    lr: float
    accuracy: float
    selection_bytes: int
    saved_bytes: int
    total_bytes: int
    seconds: float

    @classmethod
    def of(cls, method: Method, record: Record) -> "DemoRow":
        """The row of a finished run."""
        figures = record.ledger
        assert record.accuracy is not None  # The run is finished.
        return cls(
            method=method.label,
            policy=method.policy,
            lr=method.lr,
            accuracy=record.accuracy,
            selection_bytes=figures.worst_selection_elements * DTYPE_BYTES["float32"],
            saved_bytes=figures.saved_bytes,
            total_bytes=figures.worst_total_bytes,
            seconds=record.seconds,
        )


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """The table of the demo. accuracy_clean: on images like those of pretraining; accuracy_before: on shifted ones."""

    budget_bytes: int
    epochs: int
    n_train: int
    n_test: int
    accuracy_clean: float
    accuracy_before: float
    rows: tuple[DemoRow, ...]


def run_demo(
    epochs: int = EPOCHS,
    seed: int = 0,
    methods: Iterable[Method] = METHODS,
    tell: Callable[[str], Any] = lambda message: None,
) -> DemoResult:
    """Adapt ``digitnet`` with each of ``methods``; ``tell`` hears what is being done.

    Raises DataError without scikit-learn, which holds the images.
    """
    clean, shifted = read_digits(), read_digits_shifted()
    records: dict[str, Record] = {}
    rows = []
    for method in methods:
        tell(f"{method.label}: {epochs} epochs of {len(shifted.train)} images")
        tuner = _tuner(method, seed)
        accuracy_clean = tuner.evaluate(clean.test).accuracy
        train = Batches(shifted.train, BATCH_SIZE, AUGMENT, seed=seed)
        records[method.label] = tuner.fit(train, shifted.test, epochs=epochs, quiet=True)
        rows.append(DemoRow.of(method, records[method.label]))
    before = next(iter(records.values())).accuracy_before
    assert before is not None  # Every fit measures it first.
    return DemoResult(
        budget_bytes=parse_bytes(BUDGET),
        epochs=epochs,
        n_train=len(shifted.train),
        n_test=len(shifted.test),
        accuracy_clean=accuracy_clean,
        accuracy_before=before,
        rows=tuple(rows),
    )


def _tuner(method: Method, seed: int) -> FineTuner:
    example = torch.zeros(1, 3, SIDE, SIDE)
    fields = {"lr": method.lr, "batch_size": BATCH_SIZE, "device": "cpu"}
    return FineTuner(pretrained_digitnet(), example, method.budget, method.policy, seed, **fields)


def demo_text(result: DemoResult) -> str:
    """The table, and what it says in a sentence."""
    headings = ("method", "policy", "lr", "accuracy", "selection B", "saved B", "total B", "total KiB", "seconds")
    rows: list[tuple[object, ...]] = [("before", "", "", f"{result.accuracy_before:.1%}", "", "", "", "", "")]
    rows += [
        (
            row.method, row.policy, row.lr, f"{row.accuracy:.1%}",
            row.selection_bytes, row.saved_bytes, row.total_bytes, f"{kib(row.total_bytes):,.1f}", f"{row.seconds:.1f}",
        )
        for row in result.rows
    ]  # fmt: skip
    about = (
        f"{result.n_train} shifted digits to train on, {result.n_test} to test; on unshifted ones the network starts at "
        f"{result.accuracy_clean:.1%}.\nselection: weights + inputs of the chosen channels; saved: kept from forward to "
        "backward; total: all RAM of a training step at batch 1."
    )
    return "\n".join([text_table(headings, rows, n_left=2), "", about])


def demo_figure(result: DemoResult) -> "Figure":
    """The images before and after the shift, accuracy and memory of each method. Raises KilotuneError as ``new_figure``."""
    figure = new_figure(10, 5.6)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.5])
    images, bars = parts
    datasets = {"pretrained on": read_digits(), "adapted to": read_digits_shifted()}
    for (title, dataset), axes in zip(datasets.items(), images.subplots(2, 1), strict=True):
        axes.imshow(_strip(dataset))
        axes.set_ylabel(title, rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    accuracy, memory = bars.subplots(1, 2, sharey=True)
    _plot_accuracy(accuracy, result)
    _plot_memory(memory, result)
    return figure


def _plot_accuracy(axes: "Axes", result: DemoResult) -> None:
    names = ["before", *(row.method for row in result.rows)]
    shares = [result.accuracy_before, *(row.accuracy for row in result.rows)]
    axes.bar_label(axes.barh(names, shares, color=_colors(result)), [f"{share:.1%}" for share in shares], padding=3)
    axes.set(title=f"accuracy on {result.n_test} shifted digits", xlim=(0, 1))
    axes.xaxis.set_major_formatter(percent())
    axes.invert_yaxis()


def _plot_memory(axes: "Axes", result: DemoResult) -> None:
    axes.axvline(kib(result.budget_bytes), color="#d55e00", linestyle="--", label=f"budget {BUDGET}")
    names, nbytes = [row.method for row in result.rows], [row.total_bytes for row in result.rows]
    bars = axes.barh(names, [kib(n) for n in nbytes], color=_colors(result)[1:])
    white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.bar_label(bars, [format_bytes(n) for n in nbytes], padding=4, bbox=white)
    axes.legend(loc="upper right", frameon=False)
    axes.margins(x=0.45)
    axes.set(title="all RAM of a training step, worst case", xlabel="KiB")


def _colors(result: DemoResult) -> list[str]:
    return ["#bbbbbb", *("#0072b2" if row.total_bytes <= result.budget_bytes else "#888888" for row in result.rows)]


def _strip(dataset: Dataset) -> Any:
    """The first test images side by side (h, n w, c)."""
    return torch.cat(list(dataset.test.images[:N_SHOWN].permute(0, 2, 3, 1)), dim=1).numpy()


def write_demo(result: DemoResult, folder: Path) -> Path:
    """The figure as ``demo.png`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_figure(demo_figure(result), folder / "demo.png")
