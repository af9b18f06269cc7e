"""The tables in README.md and docs are those of the result files."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def _readme_script():
    spec = spec_from_file_location("readme", REPOSITORY / "benchmarks" / "readme.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_made_from_the_results():
    script = _readme_script()
    pages = {page: page.read_text() for page in script.PAGES}
    for page, text in pages.items():
        assert script.with_tables(text) == text, page
    for name, table in script.TABLES.items():
        assert table().count("\n") >= 4, f"{name} has too few rows"
        assert sum(f"<!-- {name} -->" in text for text in pages.values()) == 1, f"{name} is not shown"


def test_the_picture_is_there():
    assert _readme_script().PICTURE.read_bytes().startswith(b"\x89PNG")
