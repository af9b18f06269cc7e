"""``kilotune search``: a Sparse Update scheme for any network."""

from dataclasses import replace
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, note, use_threads

if TYPE_CHECKING:
    from kilotune.data.images import Dataset, Split
    from kilotune.graph.node import Graph
    from kilotune.memory.accounting import Accounting
    from kilotune.policies.found import FoundScheme
    from kilotune.update_plan import Budget

HELD_OUT_SHARE = 1 / 3


def _parse_out(text: str) -> Path:
    if not text.endswith(".json"):
        raise typer.BadParameter(f"{text} must end in .json, by which sparse_update knows it")
    return Path(text)


_Out = Annotated[
    Path,
    typer.Option(
        parser=_parse_out, metavar="FILE", help="File for the scheme, for --option scheme=FILE of sparse_update."
    ),
]


def search(
    model: options.Model,
    data: options.Data,
    budget: options.Budget,
    out: _Out,
    ledger: options.Ledger = "total",
    weights: options.Weights = None,
    input: options.Input = None,
    score: Annotated[
        Literal["gradient", "loss", "accuracy"],
        typer.Option(
            help="What a part contributes: loss and accuracy need a short fine-tuning per part, some minutes in all; "
            "gradient two passes over the images, but its schemes were worse than the shipped ones."
        ),
    ] = "loss",
    biases: Annotated[
        int | None,
        typer.Option(min=0, help="Train the biases of exactly so many last layers [default: as many as pay]"),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each short fine-tuning.")] = 1,
    lr: Annotated[float, typer.Option(help="Its peak learning rate: take that of the training to come.")] = 0.02,
    batch_size: options.BatchSize = 32,
    train_limit: Annotated[int | None, typer.Option(min=2, help="Look at so many training images at most.")] = 900,
    generations: Annotated[int, typer.Option(min=0, help="Generations of the evolutionary search.")] = 60,
    population: Annotated[int, typer.Option(min=2, help="Schemes in a generation.")] = 64,
    optimizer: options.Optimizer = "sgd",
    seed: options.Seed = 0,
    work: Annotated[
        Path | None, typer.Option(help="Folder of what was measured, to go on with [default: OUT with .work]")
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Find which layers, and how much of each, to train under a memory budget, once for all tasks.

    First the contribution of the biases and of each layer is measured on a third of the images that the other two thirds
    were trained on; then an evolutionary search finds the scheme of the largest sum that fits. If it is broken off, the
    same command goes on.
    """
    from kilotune.cli.network import Network
    from kilotune.data.sets import load
    from kilotune.graph.capture import example_of
    from kilotune.memory.accounting import Accounting
    from kilotune.train.search import find_scheme
    from kilotune.update_plan import Budget

    use_threads(threads)
    dataset = load(data, max(input[1:], default=None) if input else None, seed, train_limit)
    network = Network.load(model, weights, dataset.n_classes, seed)
    shape = tuple(input or network.shape_for(dataset))
    accounting, limit = Accounting(optimizer=optimizer), Budget(budget, ledger)
    recipe: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "data": data, "device": device}
    recipe |= {"mean": (network.loaded.mean,), "std": (network.loaded.std,)}
    found = find_scheme(
        network.loaded.model,
        example_of(shape),
        *_split(dataset, seed),
        limit,
        work or out.with_suffix(".work"),
        score=score,
        n_bias=biases,
        generations=generations,
        population=population,
        seed=seed,
        accounting=accounting,
        tell=note,
        **recipe,
    )
    named = replace(found, network=model)
    named.save(out)
    result = {"out": str(out)} | _facts(named, str(out), network.capture(shape), limit, accounting)
    emit(result, as_json, lambda: _text(result))


def _split(dataset: "Dataset", seed: int) -> tuple["Split", "Split"]:
    """Training images to train on and to score on; the test images stay unseen."""
    from kilotune.data.images import split_by_seed

    train, held_out = split_by_seed(dataset.train.labels, HELD_OUT_SHARE, seed)
    return dataset.train.select(train), dataset.train.select(held_out)


def _facts(found: "FoundScheme", out: str, graph: "Graph", limit: "Budget", accounting: "Accounting") -> dict[str, Any]:
    from kilotune.cli.ledger import ledger_facts
    from kilotune.memory.ledger import ledger
    from kilotune.policies.fit import plan as make_plan

    plan = make_plan(graph, "sparse_update", limit.nbytes, limit.ledger, accounting=accounting, scheme=out)
    facts = ledger_facts(plan, ledger(graph, plan, accounting=accounting))
    layers = [
        {"layer": graph.body[row].name, "ratio": ratio, "channels": floor(graph.body[row].in_channels * ratio)}
        for row, ratio in found.ratios.items()
    ]
    asked = {
        "model": found.network,
        "input": graph.input.shape[1:],
        "budget_bytes": limit.nbytes,
        "ledger": limit.ledger,
    }
    return asked | {"gain": found.gain, "n_bias": found.n_bias, "layers": layers} | facts


def _text(result: dict[str, Any]) -> str:
    from kilotune.report.table import text_table
    from kilotune.units import format_bytes

    rows = [(one["layer"], one["ratio"], one["channels"]) for one in result["layers"]]
    return "\n\n".join(
        [
            text_table(["layer", "ratio", "channels"], rows),
            f"biases of the last {result['n_bias']} layers; summed contribution {result['gain']:.4g}",
            f"selection {format_bytes(result['selection']['bytes'])}, total {format_bytes(result['total']['bytes'])}",
            f"written to {result['out']}; train it with --policy sparse_update --option scheme={result['out']}",
        ]
    )
