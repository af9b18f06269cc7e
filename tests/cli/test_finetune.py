import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kilotune.deploy.trainer import CFineTuner
from kilotune.train.record import read_record

KEYS = {"run", "policy", "accuracy_before", "accuracy", "best_accuracy", "ledger", "seconds", "epochs"}
COMMON = [
    "finetune", "--model", "cli_network:make", "--data", "data.npz", "--budget", "8KiB",
    "--batch-size", "8", "--augment", "none", "--optimizer", "adam", "--lr", "0.01",
]  # fmt: skip
PATIENCE_SECONDS = 300  # a busy machine takes its time


def test_json_then_eval_then_resume(kilotune, folder):
    called = kilotune(*COMMON, "--epochs", "2", "--json")
    result = called.json
    assert result.keys() >= KEYS
    assert result["run"] == "runs/cli_network.make-data-medyate-0"
    assert result["ledger"].keys() >= {"selection_bytes", "saved_bytes", "total_bytes"}
    assert result["ledger"]["worst_total_bytes"] <= 8192
    assert [epoch["epoch"] for epoch in result["epochs"]] == [1, 2]
    assert "input 1x8x8: the largest" in called.stderr
    assert "epoch 2: loss" in called.stderr
    recipe = read_record(Path(result["run"]) / "run.json").recipe
    assert (recipe.model, recipe.input, recipe.budget, recipe.lr) == ("cli_network:make", (1, 8, 8), 8192, 0.01)
    measured = kilotune("eval", result["run"], "--data", "data.npz", "--json").json
    assert (measured["accuracy"], measured["n"]) == (result["accuracy"], 24)
    assert measured["loss"] == pytest.approx(result["epochs"][-1]["val_loss"])
    assert kilotune("resume", result["run"], "--json").json["epochs"] == result["epochs"]


def test_text_has_a_row_for_each_epoch_and_the_result(kilotune, folder):
    text = kilotune(*COMMON, "--epochs", "2", "--input", "1x8x8", "--out", "here").stdout
    record = read_record(Path("here/run.json"))
    rows = [line.split() for line in text.splitlines() if line[:5].strip() in ("1", "2")]
    assert [row[3] for row in rows] == [f"{epoch.accuracy:.2%}" for epoch in record.epochs]
    assert f"{record.accuracy_before:.2%}" in text
    assert f"{record.ledger.total_bytes:,} B" in text
    assert "\nrun                  here" in text
    shown = kilotune("eval", "here", "--data", "data.npz").stdout
    assert shown == f"accuracy {record.accuracy:.2%}, loss {record.epochs[-1].val_loss:.4f}, 24 images\n"


def test_a_run_is_counted_as_a_streamed_firmware_would_be(kilotune, folder):
    asked = ["--budget", "12KiB", "--input", "1x8x8", "--policy", "last"]
    firmware = ["--streamed", "--program", "1KiB"]
    planned = kilotune("plan", "cli_network:inverted", *asked, *firmware, "--json").json
    tune = [
        "finetune",
        "--model",
        "cli_network:inverted",
        "--data",
        "data.npz",
        *asked,
        "--epochs",
        "1",
        "--augment",
        "none",
    ]
    tuned = kilotune(*tune, *firmware, "--json").json["ledger"]
    assert tuned["worst_total_bytes"] == planned["worst_case"]["total_bytes"] <= 12 * 1024
    plain = kilotune(*tune, "--out", "plain")
    assert plain.code == 1
    assert "needs at least" in plain.stderr


def test_one_sample_makes_an_update_so_that_no_gradients_are_summed(kilotune, folder):
    tune = [*COMMON, "--input", "1x8x8", "--epochs", "1", "--optimizer", "sgd", "--budget", "24KiB", "--policy", "full"]
    summed = kilotune(*tune, "--out", "8", "--json").json["ledger"]
    applied = kilotune(*tune, "--batch-size", "1", "--out", "1", "--json").json["ledger"]
    assert applied["worst_total_bytes"] < summed["worst_total_bytes"]


def test_an_encoder_of_texts(kilotune, folder):
    """inspect, plan, finetune, eval, rank and doctor, the input being a number of token ids."""
    net = "cli_network:reader"
    layers = kilotune("inspect", net, "--input", "6", "--json").json
    assert layers["input"] == [6]
    assert [layer["input_hw"] for layer in layers["layers"]] == [[6, 1]] * 4 + [[1, 1]]
    planned = kilotune("plan", net, "--budget", "24KiB", "--input", "6", "--json").json
    assert planned["worst_case"]["total_bytes"] <= 24 * 1024
    tune = ["finetune", "--model", net, "--data", "texts.npz", "--budget", "24KiB", "--batch-size", "8"]
    result = kilotune(*tune, "--epochs", "6", "--lr", "0.01", "--optimizer", "adam", "--json").json
    losses = [epoch["val_loss"] for epoch in result["epochs"]]
    assert losses[-1] < losses[0]
    assert result["accuracy"] > result["accuracy_before"]
    assert result["ledger"]["worst_total_bytes"] <= 24 * 1024
    assert kilotune("eval", result["run"], "--data", "texts.npz", "--json").json["accuracy"] == result["accuracy"]
    assert kilotune("rank", net, "--data", "texts.npz", "--out", "r.json", "--epochs", "1", "--json").code == 0
    assert kilotune("doctor", net, "--input", "6", "--json").json["passed"]


def test_options_reach_the_recipe(kilotune, folder):
    more = ["--policy", "random", "--redraw", "2", "--train-limit", "16", "--eval-limit", "12", "--seed", "5"]
    result = kilotune(*COMMON, "--epochs", "1", "--input", "1x8x8", *more, "--threads", "2", "--json").json
    recipe = read_record(Path(result["run"]) / "run.json").recipe
    assert (recipe.policy, recipe.redraw, recipe.train_limit, recipe.eval_limit, recipe.seed) == (
        "random",
        2,
        16,
        12,
        5,
    )
    assert result["run"] == "runs/cli_network.make-data-random-5"


def test_the_passes_of_an_oracle_are_shown(kilotune, folder):
    options = [*COMMON, "--epochs", "2", "--input", "1x8x8", "--policy", "det_rgn"]
    survey = kilotune(*options, "--out", "first", "--json").json["survey"]
    assert (survey["passes"], survey["steps"]) == (2, 12)
    text = kilotune(*options, "--out", "second").stdout
    assert "oracle's passes" in text
    assert "2 of 12 steps together, " in text
    assert kilotune("resume", "first", "--json").json["survey"] == survey


def test_the_data_are_read_once(kilotune, folder, monkeypatch):
    from kilotune.data import sets

    read = []
    monkeypatch.setattr(sets, "read_npz", lambda path, read_npz=sets.read_npz: (read.append(path), read_npz(path))[1])
    kilotune(*COMMON, "--epochs", "1", "--out", "chosen")
    assert len(read) == 1
    kilotune(*COMMON, "--epochs", "1", "--input", "1x8x8", "--out", "given")
    assert len(read) == 2
    assert [read_record(Path(run) / "run.json").accuracy for run in ("chosen", "given")] == [
        read_record(Path("chosen/run.json")).accuracy
    ] * 2


def test_without_a_budget_everything_may_be_trained_at_the_datas_size(kilotune, folder):
    unlimited = [part for part in COMMON if part not in ("--budget", "8KiB")]
    result = kilotune(*unlimited, "--epochs", "1", "--policy", "full", "--json").json
    # Selection ledger of both convolutions: see test_inspect.
    assert result["ledger"]["selection_elements"] == 1150
    assert read_record(Path(result["run"]) / "run.json").recipe.input == (1, 8, 8)


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(folder):
    program = "import torch; torch.set_num_threads(1); from kilotune.cli.main import main; main()"
    arguments = [*COMMON, "--epochs", "100000", "--input", "1x8x8", "--out", "long"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    record = Path("long/run.json")
    patience = time.monotonic() + PATIENCE_SECONDS
    while (
        process.poll() is None
        and time.monotonic() < patience
        and not (record.exists() and json.loads(record.read_text())["epochs"])
    ):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith("kilotune: stopped in epoch ")
    assert stderr.splitlines()[-1].endswith("; go on with: kilotune resume long")
    assert "Traceback" not in stderr


@pytest.mark.parametrize("policy", ["random", "medyate"])
def test_a_run_in_c_goes_on_in_c(kilotune, folder, monkeypatch, policy):
    """To the bit, whether the C changes the weights or only computes gradients."""
    tune = [*COMMON[: COMMON.index("--batch-size")], "--batch-size", "1", "--augment", "none", "--input", "1x8x8"]
    tune += ["--policy", policy, "--epochs", "2", "--backend", "c"]
    through = kilotune(*tune, "--out", "through", "--json").json
    with monkeypatch.context() as patched:
        epoch = CFineTuner._epoch

        def break_off(self, index, *rest):
            if index:
                raise KeyboardInterrupt
            epoch(self, index, *rest)

        patched.setattr(CFineTuner, "_epoch", break_off)
        assert kilotune(*tune, "--out", "broken").code == 130
    assert read_record(Path("broken/run.json")).recipe.backend == "c"
    resumed = kilotune("resume", "broken", "--json").json
    assert [one["loss"] for one in resumed["epochs"]] == [one["loss"] for one in through["epochs"]]
    assert Path("broken/weights.safetensors").read_bytes() == Path("through/weights.safetensors").read_bytes()
