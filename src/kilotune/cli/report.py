"""``kilotune report``: plots of runs."""

from pathlib import Path
from typing import Annotated

import typer

from kilotune.cli import options
from kilotune.cli.compare import Runs
from kilotune.cli.output import emit, note


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files; made if it is not there.")],
    as_json: options.AsJson = False,
) -> None:
    """Plots of one or several runs.

    For each run: bytes by kind and layer, and the channels chosen over the epochs. For all together: loss and accuracy
    curves, and accuracy against bytes. Needs matplotlib: pip install kilotune[plot].
    """
    from kilotune.report.run_report import report_runs

    written = report_runs(runs, out)
    for reason in written.left_out:
        note(reason)
    facts = {"out": str(out), "plots": [str(path) for path in written.plots], "left_out": written.left_out}
    emit(facts | {"distinct_channels": written.distinct_channels}, as_json, lambda: "\n".join(facts["plots"]))
