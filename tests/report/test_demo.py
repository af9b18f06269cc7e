"""The demo in miniature: one epoch, the same bytes, a table and a picture."""

import msgspec
import pytest
import torch

from kilotune.report.demo import BUDGET, METHODS, DemoResult, demo_text, run_demo, write_demo
from kilotune.units import parse_bytes

pytest.importorskip("sklearn", reason="the demo's images come with scikit-learn; make test installs it")
pytest.importorskip("matplotlib", reason="plots need matplotlib; make test installs it")


@pytest.fixture(scope="module")
def result() -> DemoResult:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_demo(epochs=1)
    finally:
        torch.set_num_threads(n_threads)


def test_the_network_knows_its_digits_and_not_the_shifted_ones(result):
    assert result.accuracy_clean > 0.95
    assert result.accuracy_before < 0.6


def test_the_budget_is_kept_and_dense_training_would_not_fit(result):
    classifier, sparse, dense = result.rows
    assert classifier.total_bytes < sparse.total_bytes <= parse_bytes(BUDGET) < dense.total_bytes
    assert classifier.selection_bytes == 0 < sparse.selection_bytes < dense.selection_bytes
    assert classifier.saved_bytes < sparse.saved_bytes < dense.saved_bytes


def test_the_table_has_a_line_for_each_method(result):
    text = demo_text(result)
    lines = [line for line in text.splitlines() if line.startswith(("before", *(method.label for method in METHODS)))]
    assert len(lines) == 1 + len(METHODS)
    assert f"{result.rows[1].total_bytes:,}" in lines[2]


def test_picture_and_json(result, tmp_path):
    assert write_demo(result, tmp_path / "demo").read_bytes().startswith(b"\x89PNG")
    assert msgspec.json.decode(msgspec.json.encode(result), type=DemoResult) == result
