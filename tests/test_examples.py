"""The examples run as they are, and change the model they train."""

import runpy
from pathlib import Path

import pytest
import torch

from kilotune.models.digitnet import pretrained_digitnet

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains(path, capsys):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = runpy.run_path(str(path))["model"]
    finally:
        torch.set_num_threads(n_threads)
    assert capsys.readouterr().out
    before = pretrained_digitnet().state_dict()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert {"classifier.1.weight", "classifier.1.bias"} < changed
    assert not [name for name in changed if "running" in name]


def test_both_ways_are_shown():
    assert {"own_loop", "three_lines"} <= {path.stem for path in EXAMPLES}
