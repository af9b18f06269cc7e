"""Tables as plain text."""

from collections.abc import Iterable, Sequence
from io import StringIO


def text_table(headings: Sequence[str], rows: Iterable[Sequence[object]], n_left: int = 1) -> str:
    """Aligned columns, the first ``n_left`` to the left, the others to the right; integers as 1,234."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < n_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    buffer = StringIO()
    # As wide as it takes: a table that is piped into a file must not be cut at 80 columns.
    Console(file=buffer, width=_WIDEST, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


_WIDEST = 10_000


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)
