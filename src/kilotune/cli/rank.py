"""``kilotune rank``: which layers matter."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, use_threads

if TYPE_CHECKING:
    from kilotune.policies.ranking import Ranking


def rank(
    model: options.Model,
    data: options.Data,
    out: Annotated[Path, typer.Option(help="File to write the ranking to, for --ranking of `kilotune plan`.")],
    weights: options.Weights = None,
    input: options.Input = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training everything.")] = 3,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.01,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per optimiser step.")] = 32,
    train_limit: Annotated[int | None, typer.Option(min=1, help="Train on at most so many images.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure which layers matter (RGN and LaRa) by a short fine-tuning of everything, and save the ranking.

    The training here is not inside any budget; it is done once, on a big machine, on any task.
    """
    from dataclasses import asdict, replace

    from kilotune.cli.network import Network
    from kilotune.data.sets import load
    from kilotune.graph.capture import example_of
    from kilotune.train.rank import rank as measure

    use_threads(threads)
    dataset = load(data, max(input[1:], default=None) if input else None, seed, train_limit)
    network = Network.load(model, weights, dataset.n_classes, seed)
    ranking = measure(
        network.loaded.model,
        example_of(input or network.shape_for(dataset)),
        dataset,
        data,
        epochs,
        mean=(network.loaded.mean,),
        std=(network.loaded.std,),
        lr=lr,
        batch_size=batch_size,
        seed=seed,
        device=device,
        train_limit=train_limit,
    )
    named = replace(ranking, network=model)
    named.save(out)
    emit({"out": str(out)} | asdict(named), as_json, lambda: f"{_text(named)}\n\nwritten to {out}")


def _text(ranking: "Ranking") -> str:
    from kilotune.report.table import text_table

    rows = [
        (name, f"{rgn:.3g}", place_rgn, f"{lara:.3g}", place_lara)
        for name, rgn, place_rgn, lara, place_lara in zip(
            ranking.layers, ranking.rgn, _places(ranking.rgn), ranking.lara, _places(ranking.lara), strict=True
        )
    ]
    return text_table(["layer", "RGN", "place", "LaRa", "place"], rows)


def _places(scores: tuple[float, ...]) -> list[int]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [order.index(i) + 1 for i in range(len(scores))]
