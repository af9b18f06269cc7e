"""The main job on real weights and real images: CIFAR-10 inside 256 KiB, and at 128x128 under the papers' budgets.

Usage: python benchmarks/main_job.py [--runs DIR] [--jobs 2]   (needs KILOTUNE_DATA; about half an hour on two quiet cores)

10,000 training images, all 10,000 test images, one seed; 10 epochs inside 256 KiB, 3 at 128x128 under the papers' budgets.
"streamed" counts a firmware (``kilotune plan --streamed``), which has room for 128x128 in 256 KiB. Each row is what
``kilotune finetune`` does with the same options; "dense" trains everything under the same schedule. Finished runs are kept in
``--runs`` and not repeated; the table goes to ``benchmarks/results/main_job.json``.
"""

import argparse
from pathlib import Path

from runs import carry_out, write_results

RESULTS = Path(__file__).parent / "results" / "main_job.json"

MCUNET = {"model": "mcunet_in1", "weights": "mcunet_5fps_int8"}
PROXYLESS = {"model": "proxylessnas_w0.3", "weights": "proxyless_w0.3"}
SMALL = {"input": [3, 72, 72], "epochs": 10}
LARGE = {"input": [3, 128, 128], "epochs": 3, "ledger": "selection"}
FIRMWARE = {"input": [3, 128, 128], "epochs": 10, "streamed": True, "program": 4096}
SCHEME = {"policy": "sparse_update", "options": {"scheme": "49kb"}}
DENSE = {"policy": "full", "lr": 0.005}

# Row -> recipe fields besides those that all share. The largest input at which MeDyate fits 256 KiB is 72x72 for both.
RECIPES = {
    "mcunet_in1 256KiB medyate": {**MCUNET, **SMALL, "budget": "256KiB", "policy": "medyate"},
    "mcunet_in1 72x72 dense": {**MCUNET, **SMALL, **DENSE},
    "proxylessnas_w0.3 256KiB medyate": {**PROXYLESS, **SMALL, "budget": "256KiB", "policy": "medyate"},
    "proxylessnas_w0.3 72x72 dense": {**PROXYLESS, **SMALL, **DENSE, "lr": 0.02},
    "mcunet_in1 256KiB streamed medyate": {**MCUNET, **FIRMWARE, "budget": "256KiB", "policy": "medyate"},
    "mcunet_in1 15,936 elements medyate": {**MCUNET, **LARGE, "budget": 63_744, "policy": "medyate"},
    "mcunet_in1 15,936 elements sparse_update": {**MCUNET, **LARGE, "budget": 63_744, **SCHEME},
    "proxylessnas_w0.3 25,984 elements medyate": {**PROXYLESS, **LARGE, "budget": 103_936, "policy": "medyate"},
    "proxylessnas_w0.3 25,984 elements sparse_update": {**PROXYLESS, **LARGE, "budget": 103_936, **SCHEME},
}
SHARED = {"data": "cifar10", "train_limit": 10_000, "augment": "shift", "warmup_epochs": 1}


def main() -> None:
    """Run what is missing; write and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/main"))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    told: set[str] = set()
    recipes = {name: {**SHARED, **fields} for name, fields in RECIPES.items()}
    for records in carry_out(recipes, arguments.runs, arguments.jobs):
        write_results(RESULTS, records)
        for name in records.keys() - told:
            told.add(name)
            record = records[name]
            print(
                f"{name:50} {100 * record['accuracy_before']:.2f} -> {100 * record['accuracy']:.2f} %  "
                f"total {record['ledger']['worst_total_bytes']:>9,} B  {record['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
