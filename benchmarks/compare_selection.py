"""Oracles, velocities and random neurons beside MeDyate, under the same selection bytes; small enough for two busy cores.

Usage: python benchmarks/compare_selection.py [--runs DIR] [--jobs 1]   (needs KILOTUNE_DATA; about 20 minutes)

ProxylessNAS-w0.3 pretrained on ImageNet, CIFAR-10 at 64x64, 2,000 training images, 1,000 test images, 3 epochs, two seeds.
The budget is that of compare_methods.py: 22,048 elements; "velocity, parameters" has 20,736 parameters as in its paper, which
is their part of that budget, and pays nothing for inputs. All methods but "classifier only" train 21 biases besides.
The table goes to ``benchmarks/results/compare_selection.json``.
"""

import argparse
from pathlib import Path

from compare_methods import BIASES, BUDGET_BYTES, SHARED, collect
from runs import carry_out, write_results

RESULTS = Path(__file__).parent / "results" / "compare_selection.json"
SEEDS = (0, 42)
SMALL = {"epochs": 3, "train_limit": 2_000, "eval_limit": 1_000, "lr": 0.1}
SELECTION = {"ledger": "selection", "budget": BUDGET_BYTES}
PARAMETERS = {"ledger": "parameters", "budget": 20_736 * 4}

# Method -> policy, and what its budget counts.
METHODS = {
    "MeDyate": ("medyate", SELECTION),
    "velocity": ("velocity", SELECTION),
    "velocity, parameters": ("velocity", PARAMETERS),
    "velocity on inputs": ("velocity_input", SELECTION),
    "random neurons": ("random_neurons", SELECTION),
    "Prob Raw": ("prob_raw", SELECTION),
    "Det RGN": ("det_rgn", SELECTION),
    "classifier only": ("classifier", SELECTION),
}


def recipes() -> dict[str, dict]:
    """By method and seed, one seed of all methods before the next."""
    return {
        f"{method} {seed}": {
            **SHARED, **SMALL, **counted, "policy": policy, "seed": seed,
            "options": {} if policy == "classifier" else {"biases": BIASES},
        }
        for seed in SEEDS
        for method, (policy, counted) in METHODS.items()
    }  # fmt: skip


def main() -> None:
    """Run what is missing, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare_selection"))
    parser.add_argument("--jobs", type=int, default=1)
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
            f"{ledger['worst_selection_elements'] * 4:>9,} B  total {ledger['worst_total_bytes']:>10,} B  "
            f"{row['seconds_mean']:.0f} s"
        )


if __name__ == "__main__":
    main()
