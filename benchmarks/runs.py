"""What the benchmarks that train have in common: recipes carried out side by side, finished ones kept."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import msgspec

os.environ.setdefault("KILOTUNE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))


def carry_out(recipes: dict[str, dict[str, Any]], folder: Path, jobs: int) -> Iterator[dict[str, dict]]:
    """Records by name, in the order of ``recipes``, again each time one is done; chosen channels are left out.

    recipes: fields of ``train.recipe.Recipe`` by name. Each runs in a folder of its own, in a process with one thread;
    what is finished there is not repeated.
    """
    records: dict[str, dict] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_run, fields, folder / _folder(name)): name for name, fields in recipes.items()}
        for done in as_completed(waiting):
            records[waiting[done]] = done.result()
            yield {name: records[name] for name in recipes if name in records}


def spread(runs: list[dict]) -> dict[str, float]:
    """Mean and sample standard deviation of the accuracy of runs that differ in the seed."""
    accuracy = [one["accuracy"] for one in runs]
    return {"accuracy_mean": mean(accuracy), "accuracy_std": stdev(accuracy) if len(accuracy) > 1 else 0.0}


def write_results(path: Path, results: Any) -> None:
    """Write ``results`` as readable JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def _folder(name: str) -> str:
    return name.replace(" ", "-").replace(",", "").lower()


@lru_cache(maxsize=1)
def _data(recipe: str) -> Any:
    from kilotune.train.recipe import Recipe
    from kilotune.train.run import load_data_of

    return load_data_of(Recipe.from_json(recipe))


def _run(fields: dict[str, Any], folder: Path) -> dict:
    import torch

    from kilotune.train.recipe import Recipe
    from kilotune.train.run import finetune

    torch.set_num_threads(1)
    path = folder / "run.json"
    if not (path.exists() and msgspec.json.decode(path.read_bytes())["status"] == "done"):
        recipe = Recipe.of(**fields)
        what_is_read = Recipe(data=recipe.data, input=recipe.input, seed=recipe.seed, train_limit=recipe.train_limit)
        finetune(recipe, folder, quiet=True, dataset=_data(what_is_read.to_json()))
    record = msgspec.json.decode(path.read_bytes())
    return {**record, "epochs": [{k: v for k, v in epoch.items() if k != "channels"} for epoch in record["epochs"]]}
