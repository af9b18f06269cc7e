"""Bad input of every command: the exit code, one line that says what was found and what to do, and no traceback."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from kilotune.policies.ranking import Ranking
from kilotune.update_plan import ChannelSet, Keep, UpdatePlan

NET = "cli_network:make"
FIT = ("plan", NET, "--input", "1x8x8")
EXPORT = ("export", NET, "--input", "1x8x8", "--budget", "8KiB", "--out", "firmware")
PRUNE = ("prune", NET, "--input", "1x8x8", "--out", "small.safetensors")
TUNE = ("finetune", "--model", NET, "--data", "data.npz", "--budget", "8KiB", "--epochs", "1", "--input", "1x8x8")


@dataclass(frozen=True)
class Case:
    """Arguments, and what they must be answered with."""

    arguments: tuple[str, ...]
    code: int
    says: str


CASES = {
    "unknown command": Case(("fly",), 2, "No such command 'fly'"),
    "inspect: no model": Case(("inspect",), 2, "Missing argument"),
    "inspect: unknown model": Case(("inspect", "alexnet"), 1, "there is no model 'alexnet'; choose mobilenet_v2"),
    "inspect: no such module": Case(("inspect", "nowhere:net"), 1, "No module named 'nowhere'"),
    "inspect: no such callable": Case(("inspect", "cli_network:net"), 1, "has no attribute 'net'"),
    "inspect: not a module": Case(
        ("inspect", "cli_network:number"), 1, "returned int; it must return a torch.nn.Module"
    ),
    "inspect: wrong channels": Case(("inspect", NET, "--input", "3x8x8"), 1, "check the input size"),
    "inspect: input too small": Case(("inspect", NET, "--input", "1x1x1"), 1, "cannot be traced on a batch of 1x1x1"),
    "inspect: unreadable size": Case(("inspect", NET, "--input", "8by8"), 2, "'8by8' is not an input size; write"),
    "inspect: two axes": Case(("inspect", NET, "--input", "8x8"), 2, "or a number of token ids"),
    "inspect: tokens for an image network": Case(
        ("inspect", NET, "--input", "8"), 1, "cannot be traced on a batch of 8"
    ),
    "plan: an encoder without a length": Case(
        ("plan", "cli_network:reader", "--budget", "9KiB"), 1, "with --input, for token ids their number"
    ),
    "finetune: images for an encoder": Case(
        ("finetune", "--model", "cli_network:reader", "--data", "data.npz", "--input", "6"), 1, "data.npz has images"
    ),
    "finetune: unknown token": Case(
        ("finetune", "--model", "cli_network:reader", "--data", "strange.npz"),
        1,
        "has the token id 20, but cli_network:reader knows",
    ),
    "finetune: negative token": Case(
        ("finetune", "--model", "cli_network:reader", "--data", "negative.npz"), 1, "ids count from 0"
    ),
    "plan: auto with an option": Case(
        (*FIT, "--budget", "8KiB", "--policy", "auto", "--option", "k=3"), 2, "auto chooses that itself"
    ),
    "plan: auto with a way": Case(
        (*FIT, "--budget", "8KiB", "--policy", "auto", "--keep", "int8"), 2, "auto chooses that itself"
    ),
    "plan: auto where nothing fits": Case(
        (*FIT, "--budget", "1KiB", "--policy", "auto"), 1, "no combination fits 1,024 B (1.0 KiB) total"
    ),
    "plan: unknown way": Case((*FIT, "--budget", "8KiB", "--keep", "int9"), 1, "no way of keeping 'int9'"),
    "finetune: auto": Case((*TUNE, "--policy", "auto"), 1, "there is no policy 'auto'"),
    "finetune: unknown way": Case((*TUNE, "--keep", "int9"), 1, "no way of keeping 'int9'"),
    "prune: tokens": Case(
        ("prune", "cli_network:reader", "--input", "6", "--ratio", "0.5", "--out", "s.safetensors"),
        2,
        "networks for images",
    ),
    "inspect: size of zero": Case(("inspect", NET, "--input", "1x0x8"), 2, "'1x0x8' is not an input size"),
    "inspect: no such weights": Case(("inspect", NET, "--weights", "w.pt"), 1, "there is no weight file 'w.pt'"),
    "inspect: corrupt weights": Case(("inspect", NET, "--weights", "broken.pt"), 1, "broken.pt is corrupt"),
    "inspect: corrupt safetensors": Case(
        ("inspect", NET, "--weights", "broken.safetensors"), 1, "broken.safetensors is not a safetensors file"
    ),
    "inspect: executable weights": Case(("inspect", NET, "--weights", "evil.pt"), 1, "which kilotune never does"),
    "inspect: weights of another network": Case(
        ("inspect", NET, "--weights", "other.pt"), 1, "other.pt does not fit the network"
    ),
    "inspect: no classes": Case(("inspect", NET, "--classes", "0"), 2, "should be greater than or equal to 1"),
    "export: no such plan": Case((*EXPORT, "--plan", "nothing.json"), 1, "nothing.json"),
    "export: optimiser without a kernel": Case(
        (*EXPORT, "--optimizer", "adam"), 1, "a device has SGD, with momentum or"
    ),
    "export: unknown number format": Case((*EXPORT, "--weights-dtype", "int4"), 2, "'int4' is not one of"),
    "verify: not a project": Case(("verify", "."), 1, "export again"),
    "plan: no budget": Case((*FIT,), 2, "Missing option '--budget'"),
    "plan: unreadable budget": Case((*FIT, "--budget", "12parsecs"), 2, "write for instance 256KiB"),
    "plan: negative budget": Case((*FIT, "--budget=-5KiB"), 2, "cannot read '-5KiB'"),
    "plan: budget of zero": Case((*FIT, "--budget", "0"), 1, "needs at least"),
    "plan: budget too small": Case((*FIT, "--budget", "1KiB"), 1, "(total ledger), the budget is 1,024 B (1.0 KiB)"),
    "plan: selection too small": Case(
        (*FIT, "--budget", "16", "--ledger", "selection"), 1, "(selection ledger), the budget is 16 B"
    ),
    "plan: unknown ledger": Case((*FIT, "--budget", "8KiB", "--ledger", "mine"), 2, "'mine' is not one of"),
    "plan: unknown policy": Case((*FIT, "--budget", "8KiB", "--policy", "luck"), 1, "there is no policy 'luck'"),
    "plan: no scheme": Case(
        (*FIT, "--budget", "8KiB", "--policy", "sparse_update"),
        1,
        "no Sparse Update scheme was published for cli_network",
    ),
    "plan: unknown option": Case(
        (*FIT, "--budget", "8KiB", "--option", "luck=3"), 1, "policy medyate has no option luck"
    ),
    "plan: option without value": Case((*FIT, "--budget", "8KiB", "--option", "k"), 2, "'k' is not name=value"),
    "plan: bad option value": Case(
        (*FIT, "--budget", "8KiB", "--policy", "last", "--option", "k=many"), 1, "cannot take these options"
    ),
    "plan: k without a layer set": Case(
        (*FIT, "--budget", "8KiB", "--policy", "det_rgn", "--option", "k=3"), 1, "say layer_set=rgn or lara"
    ),
    "plan: momentum of one": Case(
        (*FIT, "--budget", "8KiB", "--policy", "velocity", "--option", "mu=1"), 1, "cannot take these options"
    ),
    "plan: threshold of zero": Case(
        (*FIT, "--budget", "8KiB", "--policy", "neq", "--option", "eps=0"), 1, "cannot take these options"
    ),
    "plan: budget below one neuron": Case(
        (*FIT, "--budget", "16", "--policy", "velocity", "--ledger", "parameters"),
        1,
        "(parameters ledger), the budget is",
    ),
    "finetune: fewer images than a policy looks at": Case(
        (*TUNE, "--budget", "1MiB", "--policy", "velocity", "--option", "images=100"),
        1,
        "looks at 100 images after each epoch, the training data has 32; say images=32",
    ),
    "plan: unknown layer set": Case(
        (*FIT, "--budget", "8KiB", "--policy", "trady", "--option", "layer_set=best"), 1, "cannot take these options"
    ),
    "plan: oracle of no step": Case(
        (*FIT, "--budget", "8KiB", "--policy", "prob_raw", "--option", "survey_steps=0"), 1, "cannot take these options"
    ),
    "plan: unknown optimiser": Case((*FIT, "--budget", "8KiB", "--optimizer", "lion"), 1, "'lion' is unknown; choose"),
    "plan: unknown way of keeping": Case((*FIT, "--budget", "8KiB", "--keep", "zip"), 1, "no way of keeping 'zip'"),
    "plan: energy of zero": Case((*FIT, "--budget", "8KiB", "--keep", "hosvd:0"), 1, "Expected `float` > 0.0"),
    "plan: energy above one": Case((*FIT, "--budget", "8KiB", "--keep", "svd:1.5"), 1, "Expected `float` <= 1.0"),
    "plan: rank of zero": Case((*FIT, "--budget", "8KiB", "--keep", "asi:0"), 1, "write asi:RANKS"),
    "plan: ranks of another layer": Case(
        (*FIT, "--budget", "8KiB", "--keep", "lance:2x2"), 1, "has 2 ranks, its input has 4 modes"
    ),
    "plan: energy that is no number": Case(
        (*FIT, "--budget", "8KiB", "--keep", "hosvd:nan"), 1, "Expected `float` > 0"
    ),
    "plan: cap above one": Case((*FIT, "--budget", "8KiB", "--keep", "hosvd:0.8:2"), 1, "write hosvd:ENERGY:CAP"),
    "plan: no energy": Case((*FIT, "--budget", "8KiB", "--keep", "svd"), 1, "missing required field `energy`"),
    "plan: no ranks": Case((*FIT, "--budget", "8KiB", "--keep", "lance:"), 1, "write lance:RANKS"),
    "plan: three bits": Case(
        (*FIT, "--budget", "8KiB", "--keep", "int3"), 1, "no way of keeping 'int3' (in 'int3'); choose"
    ),
    "plan: bits with a value": Case(
        (*FIT, "--budget", "8KiB", "--keep", "int8:3"), 1, "has too many values; write int8"
    ),
    "plan: patches of nothing": Case((*FIT, "--budget", "8KiB", "--keep", "filter:0"), 1, "write filter:PATCH"),
    "plan: all positions of a cell": Case((*FIT, "--budget", "8KiB", "--keep", "pattern:4"), 1, "write pattern:TAPS"),
    "plan: patches of a linear layer": Case(
        ("plan", "cli_network:perceptron", "--input", "1x8x8", "--budget", "8KiB", "--keep", "ways_linear.json"),
        1,
        "3 is a linear layer; gradient filtering (filter:2) is defined on convolutions",
    ),
    "plan: way of a layer that is not there": Case(
        (*FIT, "--budget", "8KiB", "--keep", "ways_stranger.json"), 1, "has no layer 'conv9'; its layers are"
    ),
    "plan: way of the layer that reads the image": Case(
        (*FIT, "--budget", "8KiB", "--keep", "ways_image.json"), 1, "0 reads the image, which is in memory anyway"
    ),
    "plan: share of layers above one": Case(
        (*FIT, "--budget", "8KiB", "--policy", "trady", "--option", "share=1.5"), 1, "Expected `float` <= 1.0"
    ),
    "plan: no layer at all": Case(
        (*FIT, "--budget", "8KiB", "--policy", "trady", "--option", "k=0"), 1, "Expected `int` >= 1 - at `$.k`"
    ),
    "plan: everything frozen": Case(
        (*FIT, "--budget", "8KiB", "--policy", "dgsu", "--option", "frozen=1"), 1, "Expected `float` < 1.0"
    ),
    "plan: ratios that grow": Case(
        (*FIT, "--budget", "8KiB", "--policy", "dgsu", "--option", "decay=2"), 1, "Expected `float` <= 1.0"
    ),
    "calibrate: budget below one component": Case(
        (
            "calibrate",
            NET,
            "--data",
            "data.npz",
            "--budget",
            "16",
            "--out",
            "w.json",
            "--layers",
            "1",
            "--input",
            "1x8x8",
        ),
        1,
        "at the lowest energy, the budget is 16 B (0.0 KiB); raise it, or take fewer layers",
    ),
    "calibrate: no layer": Case(
        ("calibrate", NET, "--data", "data.npz", "--budget", "1KiB", "--out", "w.json", "--layers", "0"),
        2,
        "greater than or equal to 1",
    ),
    "calibrate: one image": Case(
        ("calibrate", NET, "--data", "data.npz", "--budget", "1KiB", "--out", "w.json", "--batch-size", "1"),
        2,
        "greater than or equal to 2",
    ),
    "finetune: ranking of another network": Case(
        (*TUNE, "--ranking", "ranking.json"), 1, "the ranking is that of some_network"
    ),
    "finetune: rank of zero": Case((*TUNE, "--keep", "lance:0"), 1, "write lance:RANKS"),
    "ledger: way of a layer that is not trained": Case(
        ("ledger", NET, "kept.json", "--input", "1x8x8"), 1, "does not train its weights; leave it out"
    ),
    "plan: no such file of ways": Case(
        (*FIT, "--budget", "8KiB", "--keep", "no.json"), 1, "cannot read ways of keeping from no.json"
    ),
    "plan: not a file of ways": Case(
        (*FIT, "--budget", "8KiB", "--keep", "ranking.json"), 1, "does not hold ways of keeping by layer"
    ),
    "finetune: nothing kept of an element": Case((*TUNE, "--keep", "prune:0"), 1, "write prune:SHARE"),
    "plan: no such ranking": Case((*FIT, "--budget", "8KiB", "--ranking", "no.json"), 1, "cannot read a ranking from"),
    "plan: ranking of another network": Case(
        (*FIT, "--budget", "8KiB", "--ranking", "ranking.json"), 1, "the ranking is that of some_network"
    ),
    "plan: no such folder": Case((*FIT, "--budget", "8KiB", "--out", "no/plan.json"), 1, "no/plan.json"),
    "plan: no input fits the network": Case(
        ("plan", NET, "--budget", "8KiB"),
        1,
        "takes no square input up to 3x128x128; give the size it takes with --input",
    ),
    "plan: unknown flag": Case((*FIT, "--budget", "8KiB", "--fast"), 2, "No such option"),
    "ledger: missing layer": Case(
        ("ledger", NET, "plan.json", "--input", "1x8x8"), 1, "has no layer 'conv9'; its layers"
    ),
    "ledger: missing channel": Case(("ledger", NET, "wide.json", "--input", "1x8x8"), 1, "3"),
    "ledger: not a plan": Case(
        ("ledger", NET, "data.npz", "--input", "1x8x8"), 1, "data.npz: this is not an update plan"
    ),
    "ledger: no such plan": Case(("ledger", NET, "no.json"), 1, "cannot read the plan no.json: No such file"),
    "rank: no such data": Case(
        ("rank", NET, "--data", "none", "--out", "r.json"), 1, "'none' is neither a known data set"
    ),
    "rank: no epoch": Case(
        ("rank", NET, "--data", "data.npz", "--epochs", "0", "--out", "r.json"),
        2,
        "should be greater than or equal to 1",
    ),
    "prune: no ratio": Case((*PRUNE,), 2, "Missing option '--ratio'"),
    "prune: ratio of one": Case((*PRUNE, "--ratio", "1"), 1, "the ratio is 1; it is the share of channels that goes"),
    "prune: unknown layer": Case(
        (*PRUNE, "--ratio", "0", "--layer", "9=0.5"), 1, "9 cannot be pruned; the layers that"
    ),
    "prune: the classifier": Case(
        (*PRUNE, "--ratio", "0", "--layer", "7=0.5"), 1, "7 cannot be pruned; the layers that"
    ),
    "prune: unreadable layer ratio": Case((*PRUNE, "--ratio", "0", "--layer", "0=half"), 2, "write NAME=RATIO"),
    "prune: unknown criterion": Case((*PRUNE, "--ratio", "0", "--criterion", "luck"), 1, "criterion 'luck' is unknown"),
    "prune: criterion without images": Case((*PRUNE, "--ratio", "0.5", "--criterion", "taylor"), 1, "with --recover"),
    "prune: unknown data": Case((*PRUNE, "--ratio", "0.5", "--recover", "mnist"), 1, "'mnist' is neither a known data"),
    "prune: another kind of file": Case((*PRUNE, "--ratio", "0.5", "--out", "small.pt"), 2, "must end in .safetensors"),
    "search: no such data": Case(
        ("search", NET, "--data", "none", "--budget", "8KiB", "--out", "s.json"),
        1,
        "'none' is neither a known data set",
    ),
    "search: not a json file": Case(
        ("search", NET, "--data", "data.npz", "--budget", "8KiB", "--out", "scheme"), 2, "scheme must end in .json"
    ),
    "search: unknown score": Case(
        ("search", NET, "--data", "data.npz", "--budget", "8KiB", "--out", "s.json", "--score", "luck"), 2, "'luck'"
    ),
    "search: budget too small": Case(
        ("search", NET, "--data", "data.npz", "--budget", "100", "--out", "s.json"), 1, "0 biases and the classifier of"
    ),
    "plan: no such scheme file": Case(
        (*FIT, "--budget", "8KiB", "--policy", "sparse_update", "--option", "scheme=no.json"),
        1,
        "cannot read a scheme from",
    ),
    "finetune: unknown data": Case((*TUNE, "--data", "mnist"), 1, "'mnist' is neither a known data set"),
    "finetune: data not there": Case((*TUNE, "--data", "cifar10"), 1, "set KILOTUNE_DATA to the folder that has it"),
    "finetune: empty class": Case((*TUNE, "--data", "images"), 1, "class folder images/cat has no image"),
    "finetune: single class": Case((*TUNE, "--data", "single"), 1, "single has 1 class folders"),
    "finetune: corrupt data": Case((*TUNE, "--data", "broken.npz"), 1, "cannot read broken.npz"),
    "finetune: data without labels": Case((*TUNE, "--data", "half.npz"), 1, "y_train, x_test, y_test missing"),
    "finetune: wrong channels": Case((*TUNE, "--input", "3x8x8"), 1, "check the input size"),
    "finetune: data of other channels": Case((*TUNE, "--data", "colour.npz"), 1, "3"),
    "finetune: unknown augmentation": Case((*TUNE, "--augment", "mixup"), 1, "augmentation 'mixup' is unknown"),
    "finetune: unknown redraw": Case((*TUNE, "--redraw", "daily"), 2, "'daily' is none of policy, never,"),
    "finetune: no rate": Case((*TUNE, "--lr", "0"), 2, "'0' is no learning rate"),
    "finetune: unknown optimiser": Case((*TUNE, "--optimizer", "lion"), 1, "optimizer 'lion' is unknown"),
    "finetune: unknown precision": Case((*TUNE, "--precision", "int4"), 2, "'int4' is not one of"),
    "finetune: no such device": Case((*TUNE, "--device", "abacus"), 1, "there is no device 'abacus' here"),
    "finetune: loss explodes": Case((*TUNE, "--lr", "1e30"), 1, "lower the learning rate"),
    "finetune: run is there": Case((*TUNE, "--out", "old"), 1, "go on with `kilotune resume old`, or choose another"),
    "finetune: out is a file": Case((*TUNE, "--out", "data.npz"), 1, "data.npz is a file, a run needs a folder"),
    "finetune: budget too small": Case((*TUNE, "--budget", "1KiB"), 1, "needs at least"),
    "resume: no run": Case(("resume", "nowhere"), 1, "nowhere"),
    "resume: corrupt record": Case(("resume", "old"), 1, "old/checkpoint/last.safetensors"),
    "eval: no run": Case(("eval", "nowhere", "--data", "data.npz"), 1, "nowhere is not a run folder"),
    "eval: corrupt record": Case(("eval", "old", "--data", "data.npz"), 1, "old/run.json is not the record of a run"),
    "eval: no data": Case(("eval", "old"), 2, "Missing option '--data'"),
    "emulate: unknown board": Case(
        ("emulate", "nowhere", "--data", "data.npz", "--board", "uno"),
        1,
        "there is no board 'uno'; choose from mps2-an386",
    ),
    "emulate: no project": Case(("emulate", "nowhere", "--data", "data.npz"), 1, "nowhere is not an exported project"),
    "emulate: unreadable limit": Case(
        ("emulate", "nowhere", "--data", "data.npz", "--ram", "lots"), 2, "cannot read 'lots' as an amount of memory"
    ),
    "fetch: unknown name": Case(
        ("fetch", "imagenet"), 1, "nothing to download is called 'imagenet'; known are cifar10"
    ),
    "fetch: no name": Case(("fetch",), 2, "Missing argument"),
}


class _Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.fixture
def trouble(folder: Path) -> Path:
    """The user's folder with everything in it that can be wrong."""
    for name in ("broken.pt", "broken.safetensors", "broken.npz"):
        Path(name).write_bytes(b"this is not what it says it is")
    torch.save(_Evil(), "evil.pt")
    torch.save({"conv9.weight": torch.zeros(3, 3)}, "other.pt")
    np.savez("half.npz", x_train=np.zeros((2, 8, 8), np.uint8))
    colour = np.zeros((6, 8, 8, 3), np.uint8)
    np.savez("colour.npz", x_train=colour, x_test=colour, y_train=np.arange(6) % 3, y_test=np.arange(6) % 3)
    labels = {"y_train": np.arange(6) % 3, "y_test": np.arange(6) % 3}
    for name, token in (("strange.npz", 20), ("negative.npz", -1)):
        np.savez(name, x_train=np.full((6, 6), 3), x_test=np.full((6, 6), token), **labels)
    Path("plan.json").write_text(UpdatePlan((ChannelSet("conv9", "in", (0,)),)).to_json())
    Path("wide.json").write_text(UpdatePlan((ChannelSet("3", "in", (6,)),)).to_json())
    Path("kept.json").write_text(UpdatePlan((), keeps=(Keep("3", "int8"),)).to_json())
    for name, layer, way in (("linear", "3", "filter:2"), ("stranger", "conv9", "int8"), ("image", "0", "int8")):
        Path(f"ways_{name}.json").write_text(json.dumps({layer: way}))
    Ranking("some_network", "0" * 16, ("a",), (1.0,), (1.0,), "test", 1).save(Path("ranking.json"))
    for name in ("images/cat", "images/dog", "single/cat", "old"):
        Path(name).mkdir(parents=True)
    Path("old/run.json").write_text("{}")
    return folder


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(kilotune, trouble, case):
    called = kilotune(*case.arguments)  # Raises what a user would see as a traceback.
    assert called.code == case.code, called.stderr
    assert called.stdout == ""
    assert case.says in called.stderr
    if case.code == 1:
        lines = [line for line in called.stderr.splitlines() if line.startswith("kilotune: ")]
        assert called.stderr.splitlines()[-1] == lines[-1]
        assert case.says in lines[-1]


@pytest.mark.parametrize("name", ["plan: budget too small", "finetune: unknown data", "eval: no run"])
def test_bad_input_leaves_stdout_empty_with_json_too(kilotune, trouble, name):
    called = kilotune(*CASES[name].arguments, "--json")
    assert (called.code, called.stdout) == (1, "")


def test_data_with_more_classes_than_the_run(kilotune, folder):
    assert kilotune(*TUNE, "--out", "run").code == 0
    images = np.zeros((10, 8, 8), np.uint8)
    np.savez("more.npz", x_train=images, x_test=images, y_train=np.arange(10), y_test=np.arange(10))
    called = kilotune("eval", "run", "--data", "more.npz")
    assert called.code == 1
    assert "10 classes" in called.stderr
