"""What commands print: results on stdout, as text or as one JSON object, everything else on stderr."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def emit(result: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """The result of a command on stdout: ``result`` as one JSON object, or what ``text`` makes of it."""
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(result).decode())
    else:
        typer.echo(text())


def note(message: str) -> None:
    """A remark for the user on stderr."""
    typer.echo(f"kilotune: {message}", err=True)


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """While entered, kilotune's log goes to stderr: only warnings where a progress bar shows how far things are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.WARNING if sys.stderr.isatty() else logging.INFO)
    logger = logging.getLogger("kilotune")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def use_threads(n_threads: int | None) -> None:
    """Let torch use ``n_threads`` CPU threads, None for all cores."""
    if n_threads is not None:
        import torch

        torch.set_num_threads(n_threads)
