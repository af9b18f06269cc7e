"""What commits cost, as text."""

from kilotune.codegen.wear import Wear
from kilotune.units import format_bytes


def wear_text(wear: Wear) -> str:
    """One paragraph: bytes, pages, and how long they last."""
    return (
        f"weight store: a commit writes {format_bytes(wear.bytes_per_commit)}, two banks take {format_bytes(wear.store_bytes)}\n"
        f"at {wear.commits_per_epoch:,} commit(s) per epoch: {format_bytes(wear.bytes_per_epoch)} written, "
        f"{wear.erases_per_epoch:,} pages erased; pages of {wear.erases:,} erases last {wear.epochs:,.0f} epochs"
    )
