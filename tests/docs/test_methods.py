"""Every policy and every way of keeping has a page: from the equation to the function, to the test, to the command."""

import re
from pathlib import Path

import pytest

from kilotune.graph.ways import WAYS
from kilotune.policies import POLICIES

PAGES = {page.name: page.read_text() for page in (Path(__file__).resolve().parents[2] / "docs" / "papers").glob("*.md")}
ARGUMENTS = [f"--policy {name}" for name in POLICIES] + [f"--keep {name}" for name in WAYS]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_page_leads_to_the_command(arguments):
    shown = re.compile(rf"^(?:\$ )?kilotune .*{arguments}(?![\w-])", re.MULTILINE)
    pages = [text for text in PAGES.values() if shown.search(text)]
    assert pages, f"no page of docs/papers shows {arguments} in a command"
    assert any(
        re.search(r"^## From the (equation|rule) to the test$", text, re.MULTILINE) and "`tests/" in text
        for text in pages
    )
