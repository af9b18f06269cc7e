"""Several runs side by side: what they cost, what came out, and where they were not made alike."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import msgspec

from kilotune.report.table import text_table
from kilotune.train.folder import RunFolder
from kilotune.train.recipe import Recipe
from kilotune.train.record import Record, read_record
from kilotune.units import DTYPE_BYTES, format_bytes, kib, parse_bytes

# Runs that differ in one of these cannot be compared by accuracy alone.
SCHEDULE = (
    "model",
    "weights",
    "data",
    "input",
    "epochs",
    "warmup_epochs",
    "batch_size",
    "accumulate",
    "lr",
    "optimizer",
    "momentum",
    "weight_decay",
    "schedule",
    "augment",
    "train_limit",
    "eval_limit",
    "precision",
)


class Spread(msgspec.Struct, frozen=True):
    """Mean over seeds and sample standard deviation (n - 1), None for a single seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """None if a value is missing."""
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return cls(mean(known), stdev(known) if len(known) > 1 else None)

    def share_text(self) -> str:
        """As percent."""
        return f"{self.mean:.2%}" if self.std is None else f"{self.mean:.2%} ± {self.std:.2%}"

    def seconds_text(self) -> str:
        """To a tenth."""
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands in the table. Bytes are the worst case over all its draws; saved_bytes is of its first plan.

    differs: fields of SCHEDULE in which it differs from most of the runs compared.
    """

    run: str
    status: str
    model: str | None
    data: str | None
    input: tuple[int, ...] | None
    policy: str
    options: dict[str, Any]
    keep: str | dict[str, str] | None
    budget_bytes: int | None
    ledger: str
    seed: int
    epochs: int
    accuracy_before: float | None
    accuracy: float | None
    best_accuracy: float | None
    selection_bytes: int
    saved_bytes: int
    total_bytes: int
    seconds: float
    differs: tuple[str, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one recipe that differ in nothing but the seed."""

    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    policy: str
    accuracy_before: Spread | None
    accuracy: Spread | None
    best_accuracy: Spread | None
    selection_bytes: int
    saved_bytes: int
    total_bytes: int
    seconds: Spread | None
    differs: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True):
    """Every run, and the runs grouped over seeds, both in the order given."""

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]


def read_runs(paths: Sequence[Path]) -> dict[str, Record]:
    """Records by run folder, in the order given, each folder once. Raises RunError if one is not a run folder."""
    return {str(path): read_record(RunFolder(path).record) for path in paths}


def compare_runs(records: dict[str, Record]) -> Comparison:
    """Lines records up. Nothing is refused; rows that were made under another schedule say so in ``differs``."""
    usual = _usual_schedule([record.recipe for record in records.values()])
    rows = tuple(_row(run, record, usual) for run, record in records.items())
    alike: dict[str, list[Row]] = {}
    for row, record in zip(rows, records.values(), strict=True):
        alike.setdefault(record.recipe.but(seed=0).to_json(), []).append(row)
    return Comparison(rows, tuple(_group(members) for members in alike.values()))


def comparison_text(comparison: Comparison) -> str:
    """One table: a line for each group of seeds; below it, what was not made alike."""
    rows = [_cells(group, comparison) for group in comparison.groups]
    marked = [
        f"* {', '.join(group.runs)}: another {', '.join(group.differs)} than most; not comparable by accuracy alone"
        for group in comparison.groups
        if group.differs
    ]
    return "\n".join([text_table(_HEADINGS, rows, n_left=5), *marked])


_HEADINGS = (
    "policy",
    "model",
    "data",
    "input",
    "budget",
    "seeds",
    "before",
    "after",
    "best",
    "selection B",
    "saved B",
    "total B",
    "total KiB",
    "seconds",
    "status",
)


def _cells(group: Group, comparison: Comparison) -> list[object]:
    members = [row for row in comparison.rows if row.run in group.runs]
    first = members[0]
    accuracies = (group.accuracy_before, group.accuracy, group.best_accuracy)
    return [
        group.policy + _kept(first.keep) + (" *" if group.differs else ""),
        first.model or "(Python)",
        first.data or "(Python)",
        "x".join(map(str, first.input or ())),
        "none" if first.budget_bytes is None else f"{format_bytes(first.budget_bytes)} {first.ledger}",
        " ".join(map(str, group.seeds)),
        *("" if accuracy is None else accuracy.share_text() for accuracy in accuracies),
        group.selection_bytes,
        group.saved_bytes,
        group.total_bytes,
        f"{kib(group.total_bytes):,.1f}",
        group.seconds.seconds_text() if group.seconds else "",
        ", ".join(sorted({row.status for row in members})),
    ]


def _kept(keep: str | dict[str, str] | None) -> str:
    """How inputs were kept, where not exactly."""
    if keep is None:
        return ""
    return f", {keep}" if isinstance(keep, str) else f", {len(keep)} layers kept their own way"


def _usual_schedule(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """The most frequent value of each field, the first seen among equals."""
    return {
        name: Counter(msgspec.json.encode(getattr(recipe, name)) for recipe in recipes).most_common(1)[0][0]
        for name in SCHEDULE
    }


def _row(run: str, record: Record, usual: dict[str, Any]) -> Row:
    recipe, ledger = record.recipe, record.ledger
    return Row(
        run=run,
        status=record.status,
        model=recipe.model,
        data=recipe.data,
        input=recipe.input,
        policy=recipe.policy,
        options=recipe.options,
        keep=recipe.keep,
        budget_bytes=None if recipe.budget is None else parse_bytes(recipe.budget),
        ledger=recipe.ledger,
        seed=recipe.seed,
        epochs=len(record.epochs),
        accuracy_before=record.accuracy_before,
        accuracy=record.accuracy,
        best_accuracy=record.best_accuracy,
        selection_bytes=ledger.worst_selection_elements * DTYPE_BYTES["float32"],
        saved_bytes=ledger.saved_bytes,
        total_bytes=ledger.worst_total_bytes,
        seconds=record.seconds,
        differs=tuple(name for name in SCHEDULE if msgspec.json.encode(getattr(recipe, name)) != usual[name]),
    )


def _group(members: Sequence[Row]) -> Group:
    # Bytes: the most of any seed, a bound for all of them.
    return Group(
        runs=tuple(row.run for row in members),
        seeds=tuple(row.seed for row in members),
        policy=members[0].policy,
        accuracy_before=Spread.of([row.accuracy_before for row in members]),
        accuracy=Spread.of([row.accuracy for row in members]),
        best_accuracy=Spread.of([row.best_accuracy for row in members]),
        selection_bytes=max(row.selection_bytes for row in members),
        saved_bytes=max(row.saved_bytes for row in members),
        total_bytes=max(row.total_bytes for row in members),
        seconds=Spread.of([row.seconds for row in members]),
        differs=members[0].differs,
    )
