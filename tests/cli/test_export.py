"""``kilotune export`` and ``kilotune verify``."""

import json
import re
import shutil
from pathlib import Path

import pytest

from kilotune.codegen.manifest import Manifest
from kilotune.update_plan import ChannelSet, Keep, UpdatePlan
from tests.cli.conftest import MODEL

EXPORT = ("export", MODEL, "--input", "1x8x8", "--budget", "8KiB")


@pytest.fixture
def needs_compilers():
    if shutil.which("gcc") is None or shutil.which("clang") is None:
        pytest.skip("needs gcc and clang")


def test_a_project_says_what_it_takes(folder, kilotune):
    result = kilotune(*EXPORT, "--out", "firmware", "--weights-dtype", "int8", "--policy", "classifier", "--json").json
    assert result["dir"] == "firmware"
    assert sum(result["memory"].values()) == result["ram_bytes"]
    assert result["arena_bytes"] == result["ram_bytes"] - result["memory"]["tables"] - result["memory"]["stack"]
    planned = kilotune("plan", MODEL, "--input", "1x8x8", "--budget", "8KiB", "--policy", "classifier", "--json").json
    assert result["arena_bytes"] == planned["total"]["bytes"]
    assert f"#define KT_ARENA_BYTES {result['arena_bytes']}\n" in Path("firmware/src/kt_project.h").read_text()
    assert {path.name for path in Path("firmware").iterdir()} >= {"src", "Makefile", "README.md", "kilotune.json"}


def test_nothing_half_written(folder, kilotune):
    Path("taken").mkdir()
    Path("taken/file").touch()
    called = kilotune(*EXPORT, "--out", "taken")
    assert called.code == 1
    assert "taken is not an empty folder" in called.stderr
    assert kilotune(*EXPORT, "--out", "new", "--optimizer", "adam").code == 1
    assert not Path("new").exists()
    assert [path for path in Path().iterdir() if path.name.startswith(".new")] == []


def test_a_run_has_a_recipe_already(folder, kilotune):
    kilotune("finetune", "--model", MODEL, "--data", "data.npz", "--epochs", "1", "--budget", "8KiB", "--out", "run")
    called = kilotune("export", "run", "--out", "firmware", "--lr", "0.1", "--plain", "--store", "64KiB")
    assert called.code == 2
    assert "'--streamed', '--lr'" in called.stderr
    assert "a run goes on as its recipe says" in called.stderr
    assert not Path("firmware").exists()


@pytest.mark.parametrize(("redraw", "expected"), [("never", "never"), ("3", 3), ("step", "step"), ("policy", "epoch")])
def test_a_run_draws_on_the_device_when_it_drew(folder, kilotune, redraw, expected):
    run = ("--model", MODEL, "--data", "data.npz", "--epochs", "1", "--budget", "8KiB", "--policy", "random")
    kilotune("finetune", *run, "--redraw", redraw, "--out", "run")
    result = kilotune("export", "run", "--out", "firmware", "--json").json
    assert Manifest.read(Path("firmware")).redraw == expected
    assert (result["store_bytes"] == 0) == (redraw == "never")


def test_a_plan_answers_what_is_trained(folder, kilotune):
    kilotune("plan", MODEL, "--input", "1x8x8", "--budget", "8KiB", "--policy", "last", "--out", "plan.json")
    called = kilotune(*EXPORT, "--plan", "plan.json", "--out", "firmware", "--keep", "int8", "--policy", "full")
    assert called.code == 2
    assert "'--policy', '--keep'" in called.stderr
    assert not Path("firmware").exists()


def test_a_large_rate_is_not_held_against_the_c(folder, kilotune, needs_compilers):
    """The hundred steps are at a rate at which rounding stays rounding."""
    assert kilotune(*EXPORT, "--out", "firmware", "--policy", "full", "--budget", "32KiB", "--lr", "5").code == 0
    assert kilotune("verify", "firmware", "--compiler", "gcc", "--json").json["ok"]


def test_a_damaged_project_is_told(folder, kilotune, needs_compilers):
    assert kilotune(*EXPORT, "--out", "firmware", "--policy", "classifier").code == 0
    source = Path("firmware/src/kt_project.c")
    source.write_text(source.read_text().partition("uint32_t kt_weights_hash")[0])
    called = kilotune("verify", "firmware")
    assert called.code == 1
    assert called.stderr.splitlines()[-1].startswith("kilotune: the project has no kt_weights_hash: ")


def test_a_policy_that_draws_anew_needs_a_store(folder, kilotune):
    drawing = (*EXPORT, "--policy", "random")
    without = kilotune(*drawing, "--out", "firmware", "--store", "0")
    assert without.code == 1
    assert "there is no weight store" in without.stderr
    small = kilotune(*drawing, "--out", "firmware", "--store", "4KiB")
    assert small.code == 1
    assert (
        "two banks of which take 16,384 B (16.0 KiB); the store has 4,096 B (4.0 KiB) in pages of 4,096 B"
        in small.stderr
    )
    assert not Path("firmware").exists()
    assert kilotune(*drawing, "--out", "firmware", "--store", "16KiB", "--json").json["store_bytes"] == 16384
    assert (
        kilotune(*EXPORT, "--out", "static", "--policy", "classifier", "--store", "0", "--json").json["store_bytes"]
        == 0
    )


def test_what_the_program_surely_needs_must_be_set_aside(folder, kilotune):
    export = (*EXPORT, "--policy", "classifier", "--out", "firmware", "--program")
    refused = kilotune(*export, "2000")
    assert refused.code == 1
    said = "sets 2,000 B aside for the program, but its stack takes 2,048 B and its tables 20 B; give --program at least 2068"
    assert said in refused.stderr
    assert not Path("firmware").exists()
    assert kilotune(*export, "2068").code == 0
    assert Manifest.read(Path("firmware")).program_bytes == 2068


def test_verify(folder, kilotune, needs_compilers):
    assert kilotune(*EXPORT, "--out", "firmware").code == 0
    result = kilotune("verify", "firmware", "--compiler", "gcc", "--json").json
    assert result["ok"]
    assert result["first_divergence"] is None
    assert result["steps"] == len(result["loss_c"]) == len(result["loss_torch"]) == 100
    weights = Path("firmware/src/kt_weights.c")
    weights.write_text(weights.read_text().replace("0x1.", "0x3.", 1))
    called = kilotune("verify", "firmware", "--compiler", "gcc")
    assert called.code == 1
    assert re.search(
        r"first divergence: activation of .*, relative .*, at most [\d.]+ ulp, mean [\d.]+;", called.stdout
    )
    assert re.search(r"\n10 steps of loss: .*\n100 steps of loss: ", called.stdout)


def test_the_reference_is_plain_data(folder, kilotune):
    kilotune(*EXPORT, "--out", "firmware", "--lr", "0.5")
    reference = json.loads(Path("firmware/reference/reference.json").read_text())
    assert reference["learning_rate"] == 0.5
    assert reference["model"] == MODEL


def test_all_operations_without_a_kernel_are_told(folder, kilotune):
    called = kilotune("export", "cli_network:wide", "--input", "1x8x8", "--budget", "1MiB", "--out", "firmware")
    assert called.code == 1
    assert (
        "has 2 operations that cannot become C:\n  conv2d -> 4x8x8 in 0: kernels are at most 11 wide\n" in called.stderr
    )
    assert "  conv2d -> 4x8x8 in 2: kernels are at most 11 wide\n" in called.stderr
    assert not Path("firmware").exists()


def plan_of(*sets: ChannelSet, **rest) -> str:
    Path("plan.json").write_text(UpdatePlan(sets, **rest).to_json())
    return "plan.json"


def test_a_plan_of_another_network_is_refused(folder, kilotune):
    def refused(plan: str) -> str:
        called = kilotune(*EXPORT, "--out", "firmware", "--plan", plan)
        assert (called.code, called.stdout) == (1, "")
        assert not Path("firmware").exists()
        return called.stderr.splitlines()[-1]

    assert "has no layer 'conv9'; its layers are 0, 3, 7" in refused(plan_of(ChannelSet("conv9", "in", (0,))))
    assert "has no layer 'conv9'; its layers are 0, 3, 7" in refused(plan_of(ChannelSet("conv9", "out", (0,))))
    assert "3 has 6 channels on axis 'in', the plan asks for channel 6" in refused(plan_of(ChannelSet("3", "in", (6,))))
    kept = plan_of(ChannelSet("3", "in", (1,)), keeps=(Keep("3", "asi:1"),))
    assert "a device keeps inputs as int8, int4, prune, pattern, filter, not as 3 (asi:1)" in refused(kept)
    assert "cannot read the plan no.json: No such file" in refused("no.json")
    assert "data.npz: this is not an update plan" in refused("data.npz")


def test_a_plan_of_a_network_with_the_same_names_is_refused(folder, kilotune):
    """Its layers have other channels; all channels that the plan names are there."""
    drawn = plan_of(ChannelSet("3", "in", (1,)), network="00000000")
    called = kilotune(*EXPORT, "--plan", drawn, "--out", "firmware")
    assert (called.code, called.stdout) == (1, "")
    assert "the plan was drawn for a network with other layers (fingerprint 00000000) than" in called.stderr
    planned = kilotune("plan", MODEL, "--input", "1x8x8", "--budget", "8KiB", "--out", "plan.json")
    assert planned.code == 0
    assert kilotune(*EXPORT, "--plan", "plan.json", "--out", "firmware").code == 0


def test_a_plan_stays_within_the_budget(folder, kilotune):
    planned = kilotune(
        "plan",
        MODEL,
        "--input",
        "1x8x8",
        "--budget",
        "8KiB",
        "--policy",
        "static_random",
        "--out",
        "plan.json",
        "--json",
    ).json
    needed = planned["total"]["bytes"]
    export = ("export", MODEL, "--input", "1x8x8", "--plan", "plan.json")
    called = kilotune(*export, "--budget", str(needed - 1), "--out", "less")
    assert called.code == 1
    assert f"the plan takes {needed:,} B (" in called.stderr
    assert not Path("less").exists()
    assert kilotune(*export, "--budget", str(needed), "--out", "enough", "--json").json["arena_bytes"] == needed


def test_inputs_kept_compressed(folder, kilotune, needs_compilers):
    """The arena is the ledger's, or smaller by what a device needs less to make inputs again."""
    plan = plan_of(ChannelSet("3", "in", (1, 5)), biases=("3",), keeps=(Keep("3", "int4"),))
    result = kilotune(*EXPORT, "--plan", plan, "--out", "firmware", "--json").json
    ledger = kilotune("ledger", MODEL, plan, "--input", "1x8x8", "--json").json
    assert result["arena_bytes"] <= ledger["total"]["bytes"]
    assert kilotune("verify", "firmware", "--compiler", "gcc", "--json").json["ok"]
    assert kilotune(*EXPORT, "--keep", "int8", "--out", "drawn").code == 0


def test_output_neurons(folder, kilotune, needs_compilers):
    """A plan trains them; a policy that draws them anew is refused, with the way out."""
    plan = plan_of(ChannelSet("3", "out", (1, 5)), biases=("3",))
    result = kilotune(*EXPORT, "--plan", plan, "--out", "firmware", "--json").json
    ledger = kilotune("ledger", MODEL, plan, "--input", "1x8x8", "--json").json
    assert result["arena_bytes"] == ledger["total"]["bytes"]
    assert kilotune("verify", "firmware", "--compiler", "gcc", "--json").json["ok"]
    called = kilotune(*EXPORT, "--policy", "random_neurons", "--out", "drawn")
    assert called.code == 1
    assert "are exported with their choice, one choice of any other with --plan" in called.stderr


def test_verify_names_the_package_of_a_missing_compiler(folder, kilotune, monkeypatch):
    assert kilotune(*EXPORT, "--out", "firmware").code == 0
    monkeypatch.setenv("PATH", "")
    called = kilotune("verify", "firmware")
    assert (called.code, called.stdout) == (1, "")
    assert "gcc is not installed; on Debian: apt-get install gcc" in called.stderr
