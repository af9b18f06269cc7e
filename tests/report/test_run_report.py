"""All plots of real, tiny run folders."""

import numpy as np
import pytest
import torch
from torch import nn

from kilotune.errors import RunError
from kilotune.report.run_report import report_runs
from kilotune.train.loop import FineTuner
from kilotune.train.recipe import Recipe
from kilotune.train.run import finetune

pytest.importorskip("matplotlib", reason="plots need matplotlib; make test installs it")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of a network of the zoo, and one of a model that was a Python object."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # Layers this small only wait for a second thread.
    folder = tmp_path_factory.mktemp("runs")
    pixels, labels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), np.arange(8) % 2
    np.savez(folder / "data.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    common = {
        "model": "mcunet_in1",
        "data": str(folder / "data.npz"),
        "input": [3, 32, 32],
        "epochs": 2,
        "batch_size": 4,
    }
    for policy, budget in (("trady", "400KiB"), ("classifier", None)):
        finetune(Recipe.of(**common, policy=policy, budget=budget), folder / policy, quiet=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    tuner = FineTuner(model, torch.zeros(1, 3, 8, 8), policy="trady", lr=0.01)
    batches = [(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 2)]
    tuner.fit(batches, batches, epochs=1, out=folder / "python", quiet=True)
    torch.set_num_threads(n_threads)
    return folder


def test_every_plot_that_can_be_drawn_is(runs, tmp_path):
    written = report_runs([runs / "trady", runs / "classifier", runs / "python"], tmp_path / "out")
    names = ["trady-bytes", "trady-channels", "classifier-bytes", "curves", "accuracy_bytes"]
    assert [path.name for path in written.plots] == [f"{name}.png" for name in names]
    assert all(path.stat().st_size > 5000 for path in written.plots)
    assert len(written.left_out) == 2
    assert "chooses none" in written.left_out[0]
    assert "Python" in written.left_out[1]
    assert all(0 < seen <= n for seen, n in written.distinct_channels["trady"].values())


def test_not_a_run(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        report_runs([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
