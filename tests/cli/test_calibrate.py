"""``kilotune calibrate``: ranks under a budget, in a file that --keep reads."""

from tests.cli.conftest import MODEL

CALIBRATE = ("calibrate", MODEL, "--data", "data.npz", "--input", "1x8x8", "--layers", "1", "--batch-size", "8")


def test_the_file_is_a_way_of_keeping(folder, kilotune):
    found = kilotune(*CALIBRATE, "--budget", "8KiB", "--out", "ways.json", "--json")
    assert found.code == 0
    ways = found.json["ways"]
    assert list(ways) == ["3"]
    assert ways["3"].startswith("asi:")
    planned = kilotune(
        "plan", MODEL, "--input", "1x8x8", "--budget", "64KiB", "--policy", "full", "--keep", "ways.json", "--json"
    )
    assert planned.json["keeps"] == [["3", ways["3"]]]


def test_a_budget_below_the_smallest_ranks(folder, kilotune):
    found = kilotune(*CALIBRATE, "--budget", "8", "--out", "ways.json")
    assert found.code == 1
    assert "at the lowest energy, the budget is 8 B" in found.stderr
