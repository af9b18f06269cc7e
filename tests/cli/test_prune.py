from pathlib import Path

import pytest
import torch

from kilotune import models
from kilotune.deploy.verify import Case

pytest.importorskip("torch_pruning", reason="needs torch-pruning; make test installs it")

PRUNE = (
    "prune",
    "cli_network:make",
    "--input",
    "1x8x8",
    "--ratio",
    "0.5",
    "--round-to",
    "1",
    "--out",
    "new/small.safetensors",
)
SMALL = ("--weights", "new/small.safetensors")


def test_every_command_takes_the_pruned_network(kilotune, folder):
    result = kilotune(*PRUNE, "--json").json
    assert result["layers"] == [{"layer": "0", "before": 6, "after": 3}, {"layer": "3", "before": 12, "after": 6}]
    assert result["weights"] == {"before": 54 + 648 + 36, "after": 27 + 162 + 18}
    assert (result["patterned"], result["recovery"]) == ([], [])
    shape = ("--input", "1x8x8", "--json")
    layers = kilotune("inspect", "cli_network:make", *SMALL, *shape).json["layers"]
    assert [layer["out_channels"] for layer in layers] == [3, 6, 3]
    assert kilotune("plan", "cli_network:make", *SMALL, "--budget", "8KiB", *shape).code == 0
    tune = (
        "finetune",
        "--model",
        "cli_network:make",
        "--data",
        "data.npz",
        "--budget",
        "8KiB",
        "--epochs",
        "1",
        "--out",
        "run",
    )
    accuracy = kilotune(*tune, *SMALL, *shape).json["accuracy"]
    Path("new/small.safetensors").unlink()  # the run knows all that it needs
    assert kilotune("eval", "run", "--data", "data.npz", "--json").json["accuracy"] == pytest.approx(accuracy, abs=0)
    assert kilotune("resume", "run", "--json").json["accuracy"] == accuracy


def test_recovery_is_recorded_with_the_network(kilotune, folder):
    arguments = ("--recover", "data.npz", "--recover-epochs", "2", "--criterion", "taylor", "--layer", "0=0")
    result = kilotune(*PRUNE, *arguments, "--json").json
    assert len(result["recovery"]) == 3
    assert [width["layer"] for width in result["layers"]] == ["3"]
    settings = models.load("cli_network:make", "new/small.safetensors").model.pruned.settings
    assert (settings["criterion"], settings["layers"], settings["recovery"]["data"]) == (
        "taylor",
        {"0": 0.0},
        "data.npz",
    )


def test_batch_norms_come_back_for_the_recovery_of_a_folded_network(kilotune, folder):
    torch.save(models.create("digitnet", classes=3, folded=True).state_dict(), "folded.pt")
    arguments = ("--ratio", "0.3", "--recover", "digits", "--recover-epochs", "1", "--train-limit", "40")
    called = kilotune(
        "prune", "digitnet", "--weights", "folded.pt", "--input", "3x32x32", *arguments, "--out", "d.safetensors"
    )
    assert "answers as the original" in called.stdout
    assert not models.load("digitnet", "d.safetensors").folded


def test_the_text_lists_the_layers(kilotune, folder):
    lines = kilotune(*PRUNE).stdout.splitlines()
    assert ["3", "12", "6"] in [line.split() for line in lines]


def test_patterns_stay_through_recovery_and_fine_tuning(kilotune, folder):
    arguments = ("--weights", "digitnet", "--ratio", "0", "--patterns", "--out", "p.safetensors")
    recovery = ("--recover", "digits", "--recover-epochs", "1", "--train-limit", "40")
    result = kilotune("prune", "digitnet", "--input", "3x32x32", *arguments, *recovery, "--json").json
    depthwise = [f"features.{number}.conv.1.0" for number in range(1, 6)]
    assert (result["patterned"], result["layers"]) == (depthwise, [])
    data = ("--data", "digits_shifted", "--train-limit", "40", "--epochs", "1", "--input", "3x32x32", "--out", "run")
    tune = ("finetune", "--model", "digitnet", "--weights", "p.safetensors", "--policy", "full", *data)
    assert kilotune(*tune).code == 0
    before = models.load("digitnet", "p.safetensors").model.state_dict()
    after = models.load("digitnet", "run/weights.safetensors").model.state_dict()
    for name in depthwise:
        old, new = before[f"{name}.weight"], after[f"{name}.weight"]
        assert torch.equal(before[f"{name}.pattern"], after[f"{name}.pattern"])
        assert (old != 0).flatten(1).sum(1).max() <= 4
        assert torch.equal(old == 0, new == 0)
        assert not torch.equal(old, new)
    assert kilotune("export", "run", "--out", "firmware").code == 0
    folded = Case.read(Path("firmware")).values.folded.values()
    assert sum(one.pattern is not None for one in folded) == len(depthwise)
