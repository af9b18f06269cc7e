"""Dynamic Gradient Sparse Update as a whole: an ImageNet MobileNetV2, pruned, then fine-tuned on CIFAR-10 inside 256 KiB.

Usage: python benchmarks/dgsu_system.py [--runs DIR] [--only NAME ...]   (needs KILOTUNE_DATA and the extra prune)

First ``kilotune prune`` makes the network narrower where the ledger has its peak, and trains it to answer as the original does at
a larger input; this looks at training images of CIFAR-10, never at labels. Then each row fine-tunes it as ``kilotune finetune``
does. Everything lies in ``--runs``: what is finished is not repeated, what was broken off goes on. The table goes to
``benchmarks/results/dgsu_system.json``: accuracy, share of the convolution weights updated in an iteration, and memory of kept
features against dense training, both as the papers count (inputs of the trained layers) and as autograd keeps it (masks too).
"""

import argparse
import os
from pathlib import Path
from typing import Any

import msgspec
import torch

RESULTS = Path(__file__).parent / "results" / "dgsu_system.json"

SIDE, BUDGET = 66, "256KiB"
MODEL, WEIGHTS = "mobilenet_v2_same", "mbv2_w1.0_int8"

# Where the forward pass is fullest, before the images are small: not more than 32 channels at half the side, 128 at a quarter.
# Then the widest layers at the end, whose channels are the most expensive to train, and the classifier's inputs.
WIDTHS = {
    "features.0.0": 0.375,
    "features.1.conv.1": 0.5,
    "features.2.conv.0.0": 0.75,
    "features.3.conv.0.0": 0.444,
    "features.4.conv.0.0": 0.278,
    "features.15.conv.0.0": 0.333,
    "features.16.conv.0.0": 0.333,
    "features.17.conv.0.0": 0.333,
    "features.18.0": 0.7,
}
RECOVERY = {"train_limit": 12_000, "epochs": 3, "teacher_side": 96}

DGSU = {"frozen": 30 / 52, "n_stages": 4, "decay": 0.5, "turns": 4, "traversal": "strided"}
SHARED: dict[str, Any] = {
    "model": MODEL,
    "data": "cifar10",
    "input": [3, SIDE, SIDE],
    "budget": BUDGET,
    "policy": "dgsu",
    "options": DGSU,
    "lr": 0.05,
    "augment": "shift",
}
LONG = {"epochs": 4}
SHORT = {"epochs": 3, "train_limit": 5_000, "eval_limit": 2_000}

# Row -> recipe fields besides those that all share. "fixed" draws once, "largest" takes the channels of largest norm.
RECIPES: dict[str, dict[str, Any]] = {
    "dgsu": LONG,
    **{
        f"{name}, short, seed {seed}": {**SHORT, **fields, "seed": seed}
        for seed in range(3)
        for name, fields in {
            "dynamic": {},
            "fixed": {"redraw": "never"},
            "largest": {"redraw": "never", "options": {**DGSU, "traversal": "largest"}},
        }.items()
    },
}


def pruned_weights(folder: Path) -> Path:
    """The pruned network's file, made if it is not there."""
    file = folder / "pruned.safetensors"
    if not file.exists():
        from kilotune.cli.prune import prune

        recovery = {"recover": "cifar10", "train_limit": RECOVERY["train_limit"], "recover_epochs": RECOVERY["epochs"]}
        layers = [f"{name}={ratio}" for name, ratio in WIDTHS.items()]
        prune(
            MODEL, 0.0, file, WEIGHTS, (3, SIDE, SIDE), layers, round_to=4, teacher_side=RECOVERY["teacher_side"],
            as_json=True, **recovery,
        )  # fmt: skip
    return file


def run(name: str, weights: Path, folder: Path) -> dict[str, Any]:
    """Carry out one recipe, or go on with it, unless it is finished; its record without the chosen channels."""
    from kilotune.train.recipe import Recipe
    from kilotune.train.run import finetune, resume

    if not (folder / "run.json").exists():
        finetune(Recipe.of(**{**SHARED, **RECIPES[name], "weights": str(weights)}), folder, quiet=True)
    elif msgspec.json.decode((folder / "run.json").read_bytes())["status"] != "done":
        resume(folder, quiet=True)
    record = msgspec.json.decode((folder / "run.json").read_bytes())
    return {**record, "epochs": [{k: v for k, v in epoch.items() if k != "channels"} for epoch in record["epochs"]]}


def memory(weights: Path, record: dict[str, Any]) -> dict[str, float]:
    """What an iteration of the run updates and keeps, as shares of all and of dense training."""
    import kilotune as kt
    from kilotune import models
    from kilotune.policies import make
    from kilotune.policies.fit import Selector

    recipe = record["recipe"]
    model = models.load(MODEL, str(weights), 10).model.eval()
    graph = kt.capture(model, torch.zeros(1, *recipe["input"]))
    selector = Selector.fit(graph, make("dgsu", **recipe["options"]), kt.Budget.parse(recipe["budget"]), recipe["seed"])
    reports = [selector.layout.report(selector.draw()) for _ in range(recipe["options"]["turns"])]
    everything = tuple(kt.ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in graph.body)
    dense = kt.ledger(graph, kt.UpdatePlan(everything))
    return {
        "weights_share": max(report.weight_elements for report in reports)
        / sum(layer.weight_elements for layer in graph.body),
        "features_share": max(report.activation_elements for report in reports) / dense.activation_elements,
        "saved_share": max(report.saved_bytes for report in reports) / dense.saved_bytes,
        "dense_saved_bytes": dense.saved_bytes,
        "dense_total_bytes": dense.total_bytes,
        "worst_total_bytes": selector.worst_case.total_bytes,
    }


def main() -> None:
    """Run what is missing; write and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/dgsu"))
    parser.add_argument("--only", nargs="*", default=list(RECIPES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    weights = pruned_weights(arguments.runs)
    records = msgspec.json.decode(RESULTS.read_bytes()) if RESULTS.exists() else {}
    for name in arguments.only:
        record = run(name, weights, arguments.runs / name.replace(",", "").replace(" ", "-"))
        records[name] = {**record, "memory": memory(weights, record)}
        RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(records), indent=1) + b"\n")
        shares = records[name]["memory"]
        print(
            f"{name:28} {100 * record['accuracy_before']:.2f} -> {100 * record['accuracy']:.2f} %  "
            f"weights {100 * shares['weights_share']:.2f} %  features {100 * shares['features_share']:.2f} %  "
            f"total {shares['worst_total_bytes']:>9,} B  {record['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("KILOTUNE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    main()
