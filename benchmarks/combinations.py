"""Whether combinations beat MeDyate alone at equal ``total`` bytes: kept precision, blocks that stream, and larger inputs.

Usage: python benchmarks/combinations.py [--runs DIR] [--jobs 1]   (needs KILOTUNE_DATA)

MCUNet-in1 pretrained on ImageNet (int8 weights taken back to float), plain SGD, three seeds. CIFAR-10: 1,020 training and
1,000 test images, 6 epochs, 256 KiB. Flowers-102: all 1,020 training images, 1,000 test images, 8 epochs, 384 KiB (its
classifier is ten times as large). Every run fills its budget in the worst case over all draws. At batch 1 most of a step's
bytes are early activations in flight, so candidates are those that make these smaller: blocks that stream, and what is then
free for more channels or a larger input. Finished runs are kept in ``--runs`` and not repeated; the table goes to
``benchmarks/results/combinations.json``.
"""

import argparse
from itertools import product
from pathlib import Path

from runs import carry_out, spread, write_results

RESULTS = Path(__file__).parent / "results" / "combinations.json"
SEEDS = (0, 42, 100)

# Data set -> budget, epochs, and sides of the input: one that leaves MeDyate room, the largest that it fits plainly, and one that
# fits only where blocks stream.
DATA = {
    "cifar10": ("256KiB", 6, {"small": 64, "largest plain": 72, "streamed": 96}),
    "flowers102": ("384KiB", 8, {"small": 64, "largest plain": 72, "streamed": 112}),
}
# How inputs are kept, whether blocks stream, the input, learning rate: the best of 0.02, 0.05 and 0.1 for MeDyate on CIFAR-10
# with seed 0, of 0.02 and 0.1 with int8.
COMBINATIONS = {
    "MeDyate": (None, False, "small", 0.02),
    "MeDyate, larger input": (None, False, "largest plain", 0.02),
    "MeDyate, int8": ("int8", False, "small", 0.02),
    "MeDyate, streamed, larger input": (None, True, "streamed", 0.02),
}


def recipe(data: str, combination: str, seed: int) -> dict:
    """What one run is made from."""
    budget, epochs, sides = DATA[data]
    keep, streamed, side, lr = COMBINATIONS[combination]
    schedule = {
        "lr": lr,
        "epochs": epochs,
        "warmup_epochs": 1,
        "augment": "shift",
        "train_limit": 1020,
        "eval_limit": 1000,
    }
    shape = (3, sides[side], sides[side])
    names = {"model": "mcunet_in1", "weights": "mcunet_5fps_int8", "data": data, "input": shape, "seed": seed}
    return {**names, **schedule, "budget": budget, "policy": "medyate", "keep": keep, "streamed": streamed}


def rows(records: dict[str, dict]) -> list[dict]:
    """One row for each data set and combination: mean and standard deviation over the seeds, bytes, each seed's record."""
    table = []
    for data, combination in product(DATA, COMBINATIONS):
        runs = [records[name] for seed in SEEDS if (name := f"{data} {combination} {seed}") in records]
        if runs:
            figures = {**spread(runs), "ledger": runs[0]["ledger"]}
            table.append(
                {"data": data, "combination": combination, "input": runs[0]["recipe"]["input"], **figures, "runs": runs}
            )
    return table


def main() -> None:
    """Run what is missing, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/combinations"))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    recipes = {f"{d} {c} {s}": recipe(d, c, s) for s, d, c in product(SEEDS, DATA, COMBINATIONS)}
    table: list[dict] = []
    for records in carry_out(recipes, arguments.runs, arguments.jobs):
        table = rows(records)
        write_results(RESULTS, {"rows": table})
        print(f"{len(records)}/{len(recipes)}", flush=True)
    for row in table:
        accuracy = f"{100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_std']:.2f} %"
        worst = row["ledger"]["worst_total_bytes"]
        print(
            f"{row['data']:10} {row['combination']:32} {accuracy}  worst total {worst:>9,} B  {len(row['runs'])} seeds"
        )


if __name__ == "__main__":
    main()
