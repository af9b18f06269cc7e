"""Every policy and every way of keeping inputs, under the same selection bytes, on two data sets.

Usage: python benchmarks/every_method.py [--runs DIR] [--jobs 1]   (needs KILOTUNE_DATA; two hours on one busy core)

ProxylessNAS-w0.3 pretrained on ImageNet, 64x64, 1,000 test images, three seeds. CIFAR-10: 2,000 training images, 3 epochs.
Flowers-102: all 1,020 training images, 6 epochs. The budget is that of compare_methods.py: 22,048 elements, weights and kept
inputs of the chosen channels. "velocity, parameters" has the 20,736 parameters that are the weights' part of it, and pays
nothing for inputs. Ways of keeping go with MeDyate, which trains as many more channels as they save. All but "classifier only"
train 21 biases besides (Sparse Update those of its scheme). "dense" and "neq", which has no budget in its paper and may choose
everything, are not under it. Policy "last" is missing: the last layer alone costs 148,992 B.

Each method has the better of two learning rates, found on CIFAR-10 with a seed of its own. Finished runs are kept in ``--runs``
and not repeated; the table goes to ``benchmarks/results/every_method.json``.
"""

import argparse
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from compare_methods import BIASES, BUDGET_BYTES, NETWORK, SIDE, WEIGHTS
from runs import carry_out, spread, write_results

RESULTS = Path(__file__).parent / "results" / "every_method.json"
SEEDS, TRIAL_SEED = (0, 42, 100), 7
RATES = (0.02, 0.1)
DATA = {
    "cifar10": {"train_limit": 2_000, "epochs": 3},
    "flowers102": {"epochs": 6},
}
SHARED = {
    "model": NETWORK, "weights": WEIGHTS, "input": [3, SIDE, SIDE], "eval_limit": 1_000, "warmup_epochs": 1, "augment": "shift",
}  # fmt: skip
SELECTION = {"ledger": "selection", "budget": BUDGET_BYTES}
WITH_BIASES = {**SELECTION, "options": {"biases": BIASES}}
DRAWN = (
    "static_random", "random", "topk_random_static", "trady", "medyate", "dgsu", "velocity_input", "velocity",
    "random_neurons", "det_raw", "static_det_raw", "det_rgn", "static_det_rgn", "prob_raw", "fisher",
)  # fmt: skip
KEEPS = ("int8", "int4", "prune:0.1", "pattern:2", "filter:2", "hosvd:0.8", "svd:0.8", "asi:4", "lance:4")

# Method -> what of its recipe is its own.
METHODS: dict[str, dict[str, Any]] = {
    "classifier only": {**SELECTION, "policy": "classifier"},
    "last biases": {**SELECTION, "policy": "bias", "options": {"k": BIASES}},
    "sparse_update 49kb": {**SELECTION, "policy": "sparse_update", "options": {"scheme": "49kb"}},
    **{policy: {**WITH_BIASES, "policy": policy} for policy in DRAWN},
    "neq, no budget": {"policy": "neq", "ledger": "selection"},
    "trady, LaRa's layers": {**WITH_BIASES, "policy": "trady", "options": {"biases": BIASES, "layer_set": "lara"}},
    "medyate, RGN's layers": {**WITH_BIASES, "policy": "medyate", "options": {"biases": BIASES, "layer_set": "rgn"}},
    "velocity, parameters": {**WITH_BIASES, "policy": "velocity", "ledger": "parameters", "budget": 20_736 * 4},
    **{f"medyate, {keep}": {**WITH_BIASES, "policy": "medyate", "keep": keep} for keep in KEEPS},
    "dense": {"policy": "full", "ledger": "selection"},
}


def recipe(method: str, data: str, lr: float, seed: int) -> dict[str, Any]:
    """What one run is made from."""
    return {**SHARED, **DATA[data], **METHODS[method], "data": data, "lr": lr, "seed": seed}


def best_rates(arguments: argparse.Namespace) -> dict[str, float]:
    """The better learning rate of each method, on CIFAR-10 and a seed that the table does not have."""
    trials = {f"{m} rate {lr}": recipe(m, "cifar10", lr, TRIAL_SEED) for m, lr in product(METHODS, RATES)}
    records: dict[str, dict] = {}
    for records in carry_out(trials, arguments.runs, arguments.jobs):
        print(f"rates: {len(records)}/{len(trials)}", flush=True)
    return {m: max(RATES, key=lambda lr: records[f"{m} rate {lr}"]["accuracy"]) for m in METHODS}


def rows(records: dict[str, dict]) -> list[dict]:
    """One row for each data set and method: mean and standard deviation over the seeds, bytes, each seed's figures."""
    table = []
    for data, method in product(DATA, METHODS):
        runs = [records[name] for seed in SEEDS if (name := f"{method} {data} {seed}") in records]
        if runs:
            table.append(
                {
                    "data": data,
                    "method": method,
                    "lr": runs[0]["recipe"]["lr"],
                    **spread(runs),
                    "accuracies": [one["accuracy"] for one in runs],
                    "survey": runs[0].get("survey"),
                    "ledger": runs[0]["ledger"],
                    "seconds_mean": mean(one["seconds"] for one in runs),
                    "recipe": runs[0]["recipe"],
                }
            )
    return table


def main() -> None:
    """Run what is missing, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/every_method"))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    rates = best_rates(arguments)
    recipes = {f"{m} {d} {s}": recipe(m, d, rates[m], s) for s, d, m in product(SEEDS, DATA, METHODS)}
    table: list[dict] = []
    for records in carry_out(recipes, arguments.runs, arguments.jobs):
        table = rows(records)
        write_results(RESULTS, {"budget_bytes": BUDGET_BYTES, "rows": table})
        print(f"{len(records)}/{len(recipes)}", flush=True)
    for row in table:
        print(
            f"{row['data']:10} {row['method']:24} {100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_std']:.2f} %  rate "
            f"{row['lr']:g}  selection {row['ledger']['worst_selection_elements'] * 4:>9,} B  {len(row['accuracies'])} seeds"
        )


if __name__ == "__main__":
    main()
