"""Where the data lies."""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, KILOTUNE_DATA set to it; skips where there are no weights."""
    folder = Path(os.environ.get("KILOTUNE_DATA", _REPOSITORY / "../shared/data")).resolve()
    wanted = folder / "weights" / "models.json"
    if not wanted.is_file():
        pytest.skip(f"needs {wanted}")
    monkeypatch.setenv("KILOTUNE_DATA", str(folder))
    return folder
