"""Runs lined up by hand-made records: grouping over seeds, marks, and the text of the table."""

import statistics

import pytest

from kilotune.errors import RunError
from kilotune.report.compare import Spread, compare_runs, comparison_text, read_runs
from kilotune.train.recipe import Recipe
from kilotune.train.record import LedgerFigures, Record

FIGURES = LedgerFigures(
    selection_elements=90,
    selection_bytes=360,
    saved_bytes=512,
    total_bytes=2000,
    worst_selection_elements=100,
    worst_total_bytes=2048,
)


def record(accuracy: float | None = 0.9, **fields) -> Record:
    recipe = Recipe.of(**{"model": "m", "data": "d", "input": [3, 8, 8], "budget": "4KiB", **fields})
    return Record(
        recipe=recipe,
        ledger=FIGURES,
        base_sha256="",
        versions={},
        commit=None,
        hardware={},
        status="done",
        accuracy_before=0.1,
        accuracy=accuracy,
        best_accuracy=accuracy,
        seconds=10.0 + recipe.seed,
    )


def test_seeds_of_one_recipe_become_mean_and_standard_deviation():
    accuracies = {0: 0.80, 1: 0.84, 2: 0.91}
    runs = {f"r{seed}": record(accuracy, seed=seed) for seed, accuracy in accuracies.items()}
    comparison = compare_runs(runs | {"other": record(0.5, policy="full", budget=None)})
    several, alone = comparison.groups
    assert several.seeds == (0, 1, 2)
    assert several.accuracy == Spread(statistics.mean(accuracies.values()), statistics.stdev(accuracies.values()))
    assert several.seconds == Spread(11.0, 1.0)
    assert alone.accuracy == Spread(0.5, None)
    assert [row.budget_bytes for row in comparison.rows] == [4096, 4096, 4096, None]


def test_bytes_are_the_worst_case():
    (row,) = compare_runs({"r": record()}).rows
    assert (row.selection_bytes, row.saved_bytes, row.total_bytes) == (400, 512, 2048)


def test_the_odd_schedule_is_marked_and_not_refused():
    runs = {"a": record(), "b": record(policy="trady"), "c": record(policy="full", epochs=3, lr=0.5)}
    comparison = compare_runs(runs)
    assert [row.differs for row in comparison.rows] == [(), (), ("epochs", "lr")]
    text = comparison_text(comparison)
    assert "* c: another epochs, lr than most" in text
    assert "full *" in text
    assert "trady *" not in text


def test_budget_policy_and_seed_are_not_the_schedule():
    runs = {"a": record(), "b": record(budget="8KiB", seed=4), "c": record(policy="dgsu")}
    assert [row.differs for row in compare_runs(runs).rows] == [(), (), ()]


def test_the_table_shows_bytes_and_kibibytes():
    text = comparison_text(compare_runs({"r": record()}))
    assert "2,048" in text
    assert "2.0" in text
    assert "90.00%" in text


def test_a_run_without_results_yet():
    comparison = compare_runs({"a": record(0.9), "b": record(None, seed=1)})
    assert comparison.groups[0].accuracy is None
    assert "done" in comparison_text(comparison)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        read_runs([tmp_path])


def test_records_come_back_from_their_folders(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        record(policy="full").write(tmp_path / name / "run.json")
    runs = read_runs([tmp_path / "b", tmp_path / "a", tmp_path / "b"])
    assert list(runs) == [str(tmp_path / "b"), str(tmp_path / "a")]
    assert runs[str(tmp_path / "a")].recipe.policy == "full"
