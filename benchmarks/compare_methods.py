"""Every method on the same network, data, schedule and seeds, under the same selection bytes.

Usage: python benchmarks/compare_methods.py [--runs DIR] [--jobs 2]   (needs KILOTUNE_DATA; under an hour on two quiet cores)

ProxylessNAS-w0.3 pretrained on ImageNet, CIFAR-10 at 64x64, 10,000 training images, all 10,000 test images, 10 epochs.
The budget is what the Sparse Update scheme "49kb" costs at this size: 20,736 weights + 1,312 inputs = 22,048 elements. All
methods but "classifier" train the biases of the scheme's 21 last layers besides; the selection ledger does not count them.
Finished runs are kept in ``--runs`` and not repeated; the table goes to ``benchmarks/results/compare_methods.json``.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import msgspec

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


def run(method: str, seed: int, folder: Path) -> Path:
    """Train one method with one seed into ``folder``, unless it is finished there."""
    import torch

    from kilotune import FineTuner, models
    from kilotune.data import sets

    torch.set_num_threads(1)
    policy, options, budget, lr = METHODS[method]
    record = folder / "run.json"
    if not (record.exists() and msgspec.json.decode(record.read_bytes())["status"] == "done"):
        data = sets.load("cifar10", train_limit=10_000)
        model = models.load(NETWORK, WEIGHTS, classes=10, seed=seed).model
        tuner = FineTuner(
            model,
            torch.zeros(1, 3, SIDE, SIDE),
            budget,
            policy,
            seed,
            model=NETWORK,
            weights=WEIGHTS,
            data="cifar10",
            ledger="selection",
            options=options,
            lr=lr,
            epochs=10,
            warmup_epochs=1,
            augment="shift",
            channels_last=True,
            train_limit=10_000,
        )
        tuner.fit(data, data, out=folder, quiet=True)
    return record


def collect(records: dict[tuple[str, int], Path]) -> list[dict]:
    """One row a method: mean and standard deviation over the seeds, bytes, seconds, and each seed's figures."""
    rows = []
    for method in METHODS:
        runs = [msgspec.json.decode(path.read_bytes()) for (name, _), path in sorted(records.items()) if name == method]
        if not runs:
            continue
        accuracy = [one["accuracy"] for one in runs]
        rows.append(
            {
                "method": method,
                "accuracy_mean": mean(accuracy),
                "accuracy_std": stdev(accuracy) if len(accuracy) > 1 else 0.0,
                "accuracy_before": mean(one["accuracy_before"] for one in runs),
                "seconds_mean": mean(one["seconds"] for one in runs),
                "ledger": runs[0]["ledger"],
                "runs": [
                    {**one, "epochs": [{k: v for k, v in e.items() if k != "channels"} for e in one["epochs"]]}
                    for one in runs
                ],
            }
        )
    return rows


def main() -> None:
    """Run what is missing, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    folders = {(m, s): arguments.runs / f"{m.replace(' ', '-').lower()}-{s}" for s in SEEDS for m in METHODS}
    done: dict[tuple[str, int], Path] = {}
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(run, *key, folder): key for key, folder in folders.items()}
        for job in as_completed(jobs):
            done[jobs[job]] = job.result()
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_bytes(
                msgspec.json.format(
                    msgspec.json.encode({"budget_bytes": BUDGET_BYTES, "rows": collect(done)}), indent=1
                )
            )
            print(f"{len(done)}/{len(folders)} {jobs[job]}", flush=True)
    for row in collect(done):
        ledger = row["ledger"]
        print(
            f"{row['method']:20} {100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_std']:.2f} %  selection "
            f"{ledger['selection_bytes']:>9,} B  kept {ledger['saved_bytes']:>9,} B  {row['seconds_mean']:.0f} s"
        )


if __name__ == "__main__":
    os.environ.setdefault("KILOTUNE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    main()
