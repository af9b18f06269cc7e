"""``kilotune compare``: several runs in one table."""

from pathlib import Path
from typing import Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")]


def compare(runs: Runs, as_json: options.AsJson = False) -> None:
    """Several runs in one table: accuracy before, after and best, both ledgers, seconds.

    Runs that differ in nothing but the seed share a line, as mean ± standard deviation. Selection and total bytes are
    the worst case over all draws; saved is what the first plan keeps from forward to backward. A star marks runs made
    under another schedule than most.
    """
    import msgspec

    from kilotune.report.compare import compare_runs, comparison_text, read_runs

    comparison = compare_runs(read_runs(runs))
    emit(msgspec.to_builtins(comparison), as_json, lambda: comparison_text(comparison))
