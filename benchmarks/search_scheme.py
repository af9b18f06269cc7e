"""Searched schemes against the five that Sparse Update shipped for the same network, at equal selection bytes.

Usage: python benchmarks/search_scheme.py [--runs DIR] [--jobs 1]   (needs KILOTUNE_DATA; five minutes on one quiet core)

ProxylessNAS-w0.3 pretrained on ImageNet, CIFAR-10 at 32x32. For each shipped scheme a scheme of at most the same weights + inputs
and exactly as many trained biases is searched for, from one table of contributions ("found"): minus the loss on 500 training
images after one epoch on 600 others at the rate of the training, one part trained at a time, at ratios 1/4 and 1; and from the
gradients of the 600 images ("cheap"). All three are then trained on 2,000 images for 3 epochs, three seeds, and evaluated on
1,000 test images. What is finished is kept in ``--runs``; the table goes to ``benchmarks/results/search_scheme.json``.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

from runs import carry_out, write_results

RESULTS = Path(__file__).parent / "results" / "search_scheme.json"
NETWORK, WEIGHTS, SIDE = "proxylessnas_w0.3", "proxyless_w0.3", 32
SEEDS = (0, 42, 100)
# How a scheme was found -> what its contributions are.
SCORES = {"found": "loss", "cheap": "gradient"}
MEASURED_RATIOS = (1 / 4, 1.0)
N_TRAIN, N_HELD_OUT = 600, 500
MEASURE = {"epochs": 1, "warmup_epochs": 1, "lr": 0.1, "batch_size": 16, "augment": "shift"}
SHARED = {
    "model": NETWORK, "weights": WEIGHTS, "data": "cifar10", "input": [3, SIDE, SIDE], "ledger": "selection",
    "policy": "sparse_update", "lr": 0.1, "epochs": 3, "warmup_epochs": 1, "augment": "shift", "train_limit": 2000,
    "eval_limit": 1000,
}  # fmt: skip


def search(folder: Path) -> dict[str, dict]:
    """By name of the shipped scheme: bytes of both, and the file of the found one."""
    import torch

    from kilotune import models
    from kilotune.data import sets
    from kilotune.data.images import Split
    from kilotune.graph.capture import capture
    from kilotune.policies import make
    from kilotune.policies.base import Task
    from kilotune.policies.schemes import SCHEMES
    from kilotune.train.search import find_scheme
    from kilotune.update_plan import Budget

    torch.set_num_threads(1)
    images = sets.load("cifar10", train_limit=N_TRAIN + N_HELD_OUT).train
    train = Split(images.images[:N_TRAIN], images.labels[:N_TRAIN])
    held_out = Split(images.images[N_TRAIN:], images.labels[N_TRAIN:])
    model, example = models.load(NETWORK, WEIGHTS, classes=10).model, torch.zeros(1, 3, SIDE, SIDE)
    task = Task.of(capture(model, example))
    pairs = {}
    # From the most biases down: the first measurement then covers the others.
    for name, shipped in sorted(SCHEMES[NETWORK].items(), key=lambda item: -item[1].n_bias):
        policy = make("sparse_update", scheme=name)
        elements = policy.bound(task, policy.sizes(task)[0]).elements
        pairs[name] = {"shipped_bytes": 4 * elements}
        for kind, score in SCORES.items():
            found = find_scheme(
                model, example, train, held_out, Budget(4 * elements, "selection"), folder / f"work-{score}", score,
                shipped.n_bias, MEASURED_RATIOS, tell=lambda message: print(message, flush=True), **MEASURE,
            )  # fmt: skip
            file = folder / f"{kind} {name}.json"
            found.save(file)
            policy = make("sparse_update", scheme=str(file))
            found_elements = policy.bound(task, 0).elements
            pairs[name] |= {f"{kind}_file": file, f"{kind}_scheme": found, f"{kind}_bytes": 4 * found_elements}
    return {name: pairs[name] for name in SCHEMES[NETWORK]}


def table(pairs: dict[str, dict], records: dict[str, dict]) -> list[dict]:
    """One row a budget: mean and standard deviation over the seeds of both schemes."""
    rows = []
    for name, pair in pairs.items():
        row = {"budget": name, **{key: value for key, value in pair.items() if not key.endswith("file")}}
        for kind in ("shipped", *SCORES):
            runs = [records[key] for seed in SEEDS if (key := f"{kind} {name} {seed}") in records]
            accuracy = [one["accuracy"] for one in runs]
            row |= {f"{kind}_accuracy": accuracy, f"{kind}_mean": mean(accuracy or [0.0])}
            row |= {f"{kind}_std": stdev(accuracy) if len(accuracy) > 1 else 0.0}
        rows.append(row)
    return rows


def main() -> None:
    """Search, train what is missing, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/search"))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    pairs = search(arguments.runs)
    recipes = {
        f"{kind} {name} {seed}": {
            **SHARED,
            "seed": seed,
            "budget": pair["shipped_bytes"],
            "options": {"scheme": scheme},
        }
        for seed in SEEDS
        for name, pair in pairs.items()
        for kind, scheme in (("shipped", name), *((kind, str(pair[f"{kind}_file"])) for kind in SCORES))
    }
    rows: list[dict] = []
    for records in carry_out(recipes, arguments.runs, arguments.jobs):
        rows = table(pairs, records)
        hardware = next(iter(records.values()))["hardware"]
        write_results(
            RESULTS, {"measure": MEASURE, "recipe": SHARED, "seeds": SEEDS, "hardware": hardware, "rows": rows}
        )
        print(f"{len(records)}/{len(recipes)}", flush=True)
    for row in rows:
        print(
            f"{row['budget']:6} shipped {100 * row['shipped_mean']:.2f} ± {100 * row['shipped_std']:.2f} % "
            f"({row['shipped_bytes']:,} B)  found {100 * row['found_mean']:.2f} ± {100 * row['found_std']:.2f} % "
            f"({row['found_bytes']:,} B)  cheap {100 * row['cheap_mean']:.2f} ± {100 * row['cheap_std']:.2f} %"
        )


if __name__ == "__main__":
    main()
