import json
from pathlib import Path

from kilotune.policies.found import FoundScheme

ARGUMENTS = ("search", "cli_network:make", "--data", "data.npz", "--generations", "3", "--population", "8")


def test_the_scheme_is_saved_printed_and_trained(kilotune, folder):
    called = kilotune(*ARGUMENTS, "--budget", "9KiB", "--out", "new/scheme.json", "--json")
    result, found = called.json, FoundScheme.load(Path("new/scheme.json"))
    assert (found.network, found.n_bias, found.gain) == ("cli_network:make", result["n_bias"], result["gain"])
    assert [one["layer"] for one in result["layers"]] == [["0", "3"][row] for row in found.ratios]
    assert result["total"]["bytes"] <= result["budget_bytes"] == 9 * 1024
    scheme = ("--policy", "sparse_update", "--option", "scheme=new/scheme.json", "--budget", "9KiB")
    plan = kilotune("plan", "cli_network:make", *scheme, "--input", "1x8x8", "--json").json
    assert plan["channels"] == result["channels"]
    tune = ("finetune", "--model", "cli_network:make", "--data", "data.npz", "--epochs", "1", "--input", "1x8x8")
    run = kilotune(*tune, *scheme, "--out", "run", "--json").json
    assert run["ledger"]["total_bytes"] == result["total"]["bytes"]
    assert json.loads(Path("new/scheme.work/contributions.json").read_text())["score"] == "loss"


def test_broken_off_it_goes_on(kilotune, folder):
    arguments = (*ARGUMENTS, "--budget", "1KiB", "--ledger", "selection", "--score", "loss", "--biases", "2")
    first = kilotune(*arguments, "--out", "scheme.json")
    assert "generation 3" in first.stderr
    assert "biases of the last 2 layers" in first.stdout
    again = kilotune(*arguments, "--out", "scheme.json")
    assert again.stdout == first.stdout
    assert "measured" not in again.stderr
