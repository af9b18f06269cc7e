"""The main job on real weights and real images: CIFAR-10 inside 256 KiB, and at 128x128 under the papers' budgets.

Usage: python benchmarks/main_job.py [--runs DIR] [--jobs 2]   (needs KILOTUNE_DATA; about half an hour on two quiet cores)

10,000 training images, all 10,000 test images, one seed; 10 epochs inside 256 KiB, 3 at 128x128. Each row is what
``kilotune finetune`` does with the same options; "dense" trains everything under the same schedule. Finished runs are kept in
``--runs`` and not repeated; the table goes to ``benchmarks/results/main_job.json``.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import msgspec

RESULTS = Path(__file__).parent / "results" / "main_job.json"

MCUNET = {"model": "mcunet_in1", "weights": "mcunet_5fps_int8"}
PROXYLESS = {"model": "proxylessnas_w0.3", "weights": "proxyless_w0.3"}
SMALL = {"input": [3, 72, 72], "epochs": 10}
LARGE = {"input": [3, 128, 128], "epochs": 3, "ledger": "selection"}
SCHEME = {"policy": "sparse_update", "options": {"scheme": "49kb"}}
DENSE = {"policy": "full", "lr": 0.005}

# Row -> recipe fields besides those that all share. The largest input at which MeDyate fits 256 KiB is 72x72 for both.
RECIPES = {
    "mcunet_in1 256KiB medyate": {**MCUNET, **SMALL, "budget": "256KiB", "policy": "medyate"},
    "mcunet_in1 72x72 dense": {**MCUNET, **SMALL, **DENSE},
    "proxylessnas_w0.3 256KiB medyate": {**PROXYLESS, **SMALL, "budget": "256KiB", "policy": "medyate"},
    "proxylessnas_w0.3 72x72 dense": {**PROXYLESS, **SMALL, **DENSE, "lr": 0.02},
    "mcunet_in1 15,936 elements medyate": {**MCUNET, **LARGE, "budget": 63_744, "policy": "medyate"},
    "mcunet_in1 15,936 elements sparse_update": {**MCUNET, **LARGE, "budget": 63_744, **SCHEME},
    "proxylessnas_w0.3 25,984 elements medyate": {**PROXYLESS, **LARGE, "budget": 103_936, "policy": "medyate"},
    "proxylessnas_w0.3 25,984 elements sparse_update": {**PROXYLESS, **LARGE, "budget": 103_936, **SCHEME},
}
SHARED = {"data": "cifar10", "train_limit": 10_000, "augment": "shift", "warmup_epochs": 1}


def run(name: str, folder: Path) -> dict:
    """Carry out one recipe, unless it is finished in ``folder``; its record without the chosen channels."""
    import torch

    from kilotune.train.recipe import Recipe
    from kilotune.train.run import finetune

    torch.set_num_threads(1)
    path = folder / "run.json"
    if not (path.exists() and msgspec.json.decode(path.read_bytes())["status"] == "done"):
        finetune(Recipe.of(**SHARED, **RECIPES[name]), folder, quiet=True)
    record = msgspec.json.decode(path.read_bytes())
    return {**record, "epochs": [{k: v for k, v in epoch.items() if k != "channels"} for epoch in record["epochs"]]}


def main() -> None:
    """Run what is missing; write and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/main"))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    records: dict[str, dict] = {}
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        folders = {name: arguments.runs / name.replace(" ", "-").replace(",", "") for name in RECIPES}
        jobs = {pool.submit(run, name, folder): name for name, folder in folders.items()}
        for job in as_completed(jobs):
            records[jobs[job]] = job.result()
            ordered = {name: records[name] for name in RECIPES if name in records}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
            record = records[jobs[job]]
            print(
                f"{jobs[job]:50} {100 * record['accuracy_before']:.2f} -> {100 * record['accuracy']:.2f} %  "
                f"total {record['ledger']['worst_total_bytes']:>9,} B  {record['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("KILOTUNE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    main()
