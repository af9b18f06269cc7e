"""``kilotune fetch``: downloads."""

from pathlib import Path
from typing import Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit


def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="cifar10, cifar100, or an entry of registry.json in the data folder.")
    ],
    to: Annotated[Path | None, typer.Option(help="Data folder [default: $KILOTUNE_DATA, or ~/.cache/kilotune]")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Download a registered data set or checkpoint; goes on where an earlier download broke off, and checks SHA-256."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from kilotune.data.fetch import fetch as download
    from kilotune.data.sets import data_root

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name)
        path = download(name, to or data_root(), lambda done, total: progress.update(task, completed=done, total=total))
    emit({"name": name, "path": str(path)}, as_json, lambda: f"{name} is in {path}")
