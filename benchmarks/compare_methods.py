"""Every method on the same network, data, schedule and seeds, under the same selection bytes.

Usage: python benchmarks/compare_methods.py [--runs DIR] [--jobs 2]   (needs KILOTUNE_DATA; under an hour on two quiet cores)

ProxylessNAS-w0.3 pretrained on ImageNet, CIFAR-10 at 64x64, 10,000 training images, all 10,000 test images, 10 epochs.
The budget is what the Sparse Update scheme "49kb" costs at this size: 20,736 weights + 1,312 inputs = 22,048 elements. All
methods but "classifier" train the biases of the scheme's 21 last layers besides; the selection ledger does not count them.
Each seed trains on 10,000 images of its own; in the committed runs all three trained on those of seed 0.
Finished runs are kept in ``--runs`` and not repeated; the table goes to ``benchmarks/results/compare_methods.json``.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from runs import carry_out, spread, write_results

RESULTS = Path(__file__).parent / "results" / "compare_methods.json"
NETWORK, WEIGHTS, SIDE = "proxylessnas_w0.3", "proxyless_w0.3", 64
BUDGET_BYTES = 22_048 * 4
SEEDS = (0, 42, 100)
BIASES = 21

# Method -> policy, its options, budget, learning rate. The rate is the best of 0.02, 0.05 and 0.1 in runs of 3 epochs on
# 3,000 images with seed 0; dense training diverges or falls behind above 0.02, because batch norm is frozen.
METHODS = {
    "classifier only": ("classifier", {}, BUDGET_BYTES, 0.1),
    "Sparse Update 49kb": ("sparse_update", {"scheme": "49kb"}, BUDGET_BYTES, 0.1),
    "random": ("random", {"biases": BIASES}, BUDGET_BYTES, 0.1),
    "TraDy": ("trady", {"biases": BIASES}, BUDGET_BYTES, 0.1),
    "MeDyate": ("medyate", {"biases": BIASES}, BUDGET_BYTES, 0.1),
    "DGSU": ("dgsu", {"biases": BIASES}, BUDGET_BYTES, 0.1),
    "dense": ("full", {}, None, 0.02),
}


SHARED = {
    "model": NETWORK, "weights": WEIGHTS, "data": "cifar10", "input": [3, SIDE, SIDE], "ledger": "selection",
    "epochs": 10, "warmup_epochs": 1, "augment": "shift", "train_limit": 10_000,
}  # fmt: skip


def recipes() -> dict[str, dict]:
    """By method and seed."""
    return {
        f"{method} {seed}": {
            **SHARED, "policy": policy, "options": options, "budget": budget, "lr": lr, "seed": seed,
        }
        for seed in SEEDS
        for method, (policy, options, budget, lr) in METHODS.items()
    }  # fmt: skip


def collect(records: dict[str, dict], methods: Iterable[str], seeds: tuple[int, ...]) -> list[dict]:
    """One row a method: mean and standard deviation over the seeds, bytes, seconds, and each seed's figures."""
    rows = []
    for method in methods:
        runs = [records[key] for seed in seeds if (key := f"{method} {seed}") in records]
        if not runs:
            continue
        rows.append(
            {
                "method": method,
                **spread(runs),
                "accuracy_before": mean(one["accuracy_before"] for one in runs),
                "seconds_mean": mean(one["seconds"] for one in runs),
                "ledger": runs[0]["ledger"],
                "runs": runs,
            }
        )
    return rows


def main() -> None:
    """Run what is missing, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    rows: list[dict] = []
    for records in carry_out(recipes(), arguments.runs, arguments.jobs):
        rows = collect(records, METHODS, SEEDS)
        write_results(RESULTS, {"budget_bytes": BUDGET_BYTES, "rows": rows})
        print(f"{len(records)}/{len(METHODS) * len(SEEDS)}", flush=True)
    for row in rows:
        ledger = row["ledger"]
        print(
            f"{row['method']:20} {100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_std']:.2f} %  selection "
            f"{ledger['selection_bytes']:>9,} B  kept {ledger['saved_bytes']:>9,} B  {row['seconds_mean']:.0f} s"
        )


if __name__ == "__main__":
    main()
