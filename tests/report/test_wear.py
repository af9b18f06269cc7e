"""What commits cost, in words."""

from kilotune.codegen.wear import Wear
from kilotune.report.wear import wear_text


def test_every_figure_is_there():
    text = wear_text(Wear(100_000, 204_800, 100_064, 500, 50_032_000, 12_500, 10_000, 40.0))
    for figure in (
        "100,064 B",
        "204,800 B",
        "500 commit(s)",
        "50,032,000 B",
        "12,500 pages",
        "10,000 erases",
        "40 epochs",
    ):
        assert figure in text
