"""``kilotune calibrate``: ranks of ASI for the last layers, under a budget."""

from pathlib import Path
from typing import Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, use_threads


def calibrate(
    model: options.Model,
    data: options.Data,
    budget: options.Budget,
    out: Annotated[Path, typer.Option(help="File to write the ways to, for --keep of `kilotune plan` and `finetune`.")],
    layers: Annotated[int, typer.Option(min=1, help="So many last layers before the classifier.")] = 4,
    weights: options.Weights = None,
    input: options.Input = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images of the batch that ranks are found on.")] = 32,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Find the ranks at which ASI keeps the inputs of the last layers: least loss of gradient within a budget.

    The budget counts cores and factors at this batch size, as the paper does. One batch, once, outside any other budget.
    """
    import msgspec

    from kilotune.cli.network import Network
    from kilotune.data.augment import Augment
    from kilotune.data.sets import load
    from kilotune.errors import PlanError
    from kilotune.report.table import text_table
    from kilotune.train.calibrate import search_ranks
    from kilotune.train.files import write_atomic

    use_threads(threads)
    dataset = load(data, max(input[1:], default=None) if input else None, seed, batch_size)
    if dataset.train.is_text:
        raise PlanError(f"{data} holds texts; ranks are searched for on images")
    network = Network.load(model, weights, dataset.n_classes, seed)
    shape = input or network.shape_for(dataset)
    graph = network.capture(shape)
    augment = Augment((shape[1], shape[2]), "none", (network.loaded.mean,), (network.loaded.std,))
    x, y = augment.evaluate(dataset.train.images), dataset.train.labels.long()
    names = [layer.name for layer in graph.body[-layers:]]
    ways = search_ranks(network.loaded.model, graph, names, x, y, budget)
    write_atomic(out, msgspec.json.format(msgspec.json.encode(ways), indent=1))
    table = text_table(["layer", "way"], list(ways.items()), n_left=2)
    emit({"out": str(out), "ways": ways}, as_json, lambda: f"{table}\n\nwritten to {out}")
