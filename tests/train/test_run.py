import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kilotune.errors import RunError
from kilotune.train.folder import RunFolder
from kilotune.train.loop import FineTuner
from kilotune.train.recipe import Recipe
from kilotune.train.record import read_record
from kilotune.train.run import finetune, open_run, resume
from kilotune.train.tensors import read_tensors
from kilotune.train.update import fingerprint

MODULE = """
from torch import nn

def make(classes=3):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 12, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes),
    )
"""
PATIENCE_SECONDS = 300


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A user's own network and an .npz file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("own_network.py").write_text(MODULE)
    draws = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 48), ("test", 24)):
        labels = np.arange(n) % 3
        arrays[f"y_{part}"] = labels
        arrays[f"x_{part}"] = draws.integers(0, 80 + 80 * labels[:, None, None], (n, 8, 8)).astype(np.uint8)
    np.savez("data.npz", **arrays)
    return Recipe.of(model="own_network:make", data="data.npz", batch_size=8, epochs=30, augment="shift", seed=1)


def tuned(run: str) -> str:
    return fingerprint(read_tensors(RunFolder(Path(run)).weights)[0])


def test_finetune_then_open(recipe):
    record = finetune(recipe.but(epochs=2, optimizer="adam", lr=0.01), "run")
    assert record.status == "done"
    assert record.recipe.input == (1, 8, 8)
    run = open_run("run")
    assert run.record == record
    assert fingerprint(run.model.state_dict()) == tuned("run")
    metrics = run.evaluate("data.npz")
    assert (metrics.accuracy, metrics.n) == (record.accuracy, 24)
    assert metrics.loss == record.epochs[-1].val_loss


def test_same_seed_same_weights(recipe):
    short = recipe.but(epochs=1)
    finetune(short, "a")
    finetune(short, "b")
    finetune(short.but(seed=2), "c")
    assert tuned("a") == tuned("b") != tuned("c")


def test_ctrl_c_in_another_process_then_resume(recipe, caplog):
    """The real thing: a process, SIGINT, the message, the status; the resumed run ends like one that ran through."""
    Path("recipe.json").write_text(recipe.to_json())
    script = (
        "from pathlib import Path; from kilotune.train.recipe import Recipe; from kilotune.train.run import finetune;"
        "finetune(Recipe.from_json(Path('recipe.json').read_text()), 'broken')"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        wait_for_an_epoch(Path("broken/run.json"), process)
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "go on with: kilotune resume broken" in message
    stopped = open_run("broken").record
    assert stopped.status == "stopped"
    assert f"broken stopped in epoch {len(stopped.epochs) + 1} of {recipe.epochs}: it is taken" in caplog.text
    assert 1 <= len(stopped.epochs) < recipe.epochs
    assert resume("broken").status == "done"
    finetune(recipe, "straight")
    assert tuned("broken") == tuned("straight")


def wait_for_an_epoch(path: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and read_record(path).epochs:
            return
        time.sleep(0.01)
    pytest.fail("the run did not finish an epoch in time")


def test_a_run_made_in_python_says_so(recipe, tmp_path):
    sys.path.insert(0, os.getcwd())
    import torch
    from own_network import make  # type: ignore[import-not-found]

    batches = [(torch.randn(4, 1, 8, 8), torch.arange(4) % 3)]
    FineTuner(make(), torch.zeros(1, 1, 8, 8), policy="full").fit(batches, batches, epochs=1, out="run")
    sys.path.remove(os.getcwd())
    for reopen in (open_run, resume):
        with pytest.raises(RunError, match="model in Python"):
            reopen("run")


def test_what_cannot_be_opened(recipe):
    for reopen in (open_run, resume):
        with pytest.raises(RunError, match="nowhere"):
            reopen("nowhere")
    with pytest.raises(RunError, match="must name a model and a data set"):
        finetune(recipe.but(data=None), "run")
