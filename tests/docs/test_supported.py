"""docs/guides/supported.md against the tables that decide what is supported."""

import re
from pathlib import Path

import pytest

from kilotune.graph.lowering import LOWERINGS, REWRITES
from kilotune.models import MODELS

PAGE = (Path(__file__).resolve().parents[2] / "docs/guides/supported.md").read_text()
OPERATIONS, REST = PAGE.split("## Rewrites")
REWRITE_ROWS = REST.split("## What the message looks like")[0]


def named(text: str) -> set[str]:
    """Operations in the first two columns of the page's tables."""
    rows = (line.split("|")[1:3] for line in text.splitlines() if line.startswith("|"))
    return {name for row in rows for cell in row for name in re.findall(r"`(\w+)`", cell)}


def test_every_lowering_is_listed_and_nothing_else():
    assert named(OPERATIONS) == set(LOWERINGS)


def test_every_rewrite_is_listed_and_nothing_else():
    assert named(REWRITE_ROWS) == set(REWRITES)


@pytest.mark.parametrize("operation", REWRITES)
def test_rewrites_read_as_the_error_does(operation):
    row = next(line for line in REWRITE_ROWS.splitlines() if f"`{operation}`" in line)
    assert row.split("|")[2].strip() == REWRITES[operation]


def test_zoo_networks_are_named():
    families = {re.match(r"[a-z]+", name)[0] for name in MODELS if ":" not in name}
    unnamed = [family for family in families if f"`{family}" not in PAGE]
    assert not unnamed
