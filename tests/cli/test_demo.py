"""``demo``, shortened to one epoch, and what it says without its extras."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

import kilotune.report.demo as demo


@pytest.fixture
def short(monkeypatch):
    """One epoch of the classifier alone."""
    monkeypatch.setattr(demo, "run_demo", partial(demo.run_demo, epochs=1, methods=demo.METHODS[:1]))


def test_json_and_files(kilotune, folder, short):
    pytest.importorskip("matplotlib", reason="plots need matplotlib; make test installs it")
    pytest.importorskip("sklearn", reason="the demo's images come with scikit-learn; make test installs it")
    called = kilotune("demo", "--json")
    assert called.code == 0
    assert called.json["rows"][0]["total_bytes"] < called.json["budget_bytes"]
    assert Path(called.json["plot"]).read_bytes().startswith(b"\x89PNG")
    written = json.loads(Path("demo/demo.json").read_text())
    assert written == {key: value for key, value in called.json.items() if key != "plot"}
    assert "1 epochs" in called.stderr


@pytest.mark.parametrize(
    ("missing", "says"), [("matplotlib", "kilotune[plot]"), ("sklearn.datasets", "kilotune[demo]")]
)
def test_without_its_extras(kilotune, folder, short, monkeypatch, missing, says):
    monkeypatch.setitem(sys.modules, missing, None)
    called = kilotune("demo")
    assert called.code == 1
    assert f"pip install {says}" in called.stderr.replace("'", "")
    assert not Path("demo").exists()
