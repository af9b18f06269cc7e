"""``kilotune prune``: make a pretrained network narrower, once, before it is fine-tuned."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, log_on_stderr, use_threads

if TYPE_CHECKING:
    import torch

    from kilotune.cli.network import Network
    from kilotune.graph.node import Graph
    from kilotune.prune.channels import Narrowed, Settings
    from kilotune.train.recover import Agreement, Recovery

_Out = Annotated[Path, typer.Option(help="File to write, .safetensors; give it to other commands as --weights.")]
_Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", metavar="NAME=RATIO", help="Another ratio for one layer; may be given several times."),
]
_Recover = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Train the pruned network to answer as the original does, on the training images of this data set, without "
        "their labels. Images like those of the pretraining are best.",
    ),
]
_Teacher = Annotated[
    int | None, typer.Option(min=1, help="Side of the images for the original network [default: that of --input]")
]
_Detail = Annotated[
    int | None,
    typer.Option(min=1, help="Side of the images of the later task, which the recovery shall imitate [default: any]"),
]

_N_MEASURED = 256  # Images on which batch norms and importance are measured.


def prune(
    model: options.Model,
    ratio: Annotated[float, typer.Option(help="Share of the channels of every layer that goes, in [0, 1).")],
    out: _Out,
    weights: options.Weights = None,
    input: options.Input = None,
    layer: _Layers = None,
    criterion: Annotated[
        str, typer.Option(help="What makes a channel important: magnitude, l1, taylor, lamp or random.")
    ] = "magnitude",
    scope: Annotated[str, typer.Option(help="Whether the ratio is that of each layer, or of the network.")] = "layer",
    round_to: Annotated[int, typer.Option(help="Layers keep a multiple of so many channels.")] = 8,
    patterns: Annotated[
        bool, typer.Option("--patterns", help="Cut the kernels of depthwise convolutions down to patterns besides.")
    ] = False,
    recover: _Recover = None,
    recover_epochs: Annotated[int, typer.Option(min=1, help="Epochs of recovery training.")] = 10,
    recover_lr: Annotated[float, typer.Option(help="Peak learning rate of the recovery (Adam).")] = 1e-3,
    teacher_side: _Teacher = None,
    detail: _Detail = None,
    train_limit: options.TrainLimit = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a pretrained network narrower: the least important channels go, and with them everything that reads them.

    This happens offline, without a budget, before `kilotune finetune`.
    """
    from kilotune.cli.network import Network
    from kilotune.prune.channels import Settings
    from kilotune.train.recover import Recovery

    use_threads(threads)
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"{out} must end in .safetensors", param_hint="'--out'")
    settings = Settings(ratio, _ratios(layer), criterion, scope, round_to, seed)
    network = Network.load(model, weights, None, seed)
    shape = input or options.Shape((3, network.side, network.side))
    if len(shape) == 1:
        raise typer.BadParameter("channels are pruned of networks for images; write CxHxW", param_hint="'--input'")
    loaded = network.loaded
    recovery = Recovery(
        shape[1],
        teacher_side or shape[1],
        detail,
        recover_epochs,
        recover_lr,
        mean=(loaded.mean,),
        std=(loaded.std,),
        seed=seed,
    )
    with log_on_stderr():
        work = _Work(network, shape, settings, patterns, recovery, recover, train_limit, device)
        pruned, agreement = _carry_out(work)
    _write(work, pruned, out)
    emit(result := _result(work, pruned, agreement, out), as_json, lambda: _text(result))


def _ratios(given: list[str] | None) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in options.parse_policy_options(given).items()}
    except ValueError as error:
        raise typer.BadParameter(f"{error}; write NAME=RATIO, such as features.2.conv.0.0=0.5") from error


class _Work(NamedTuple):
    """What was asked for; ``data`` names the images of the recovery."""

    network: "Network"
    shape: options.Shape
    settings: "Settings"
    patterns: bool
    recovery: "Recovery"
    data: str | None
    train_limit: int | None
    device: str


def _carry_out(work: _Work) -> "tuple[Narrowed, list[Agreement]]":
    import torch

    from kilotune.data.sets import load
    from kilotune.prune.channels import prune_channels
    from kilotune.prune.patterns import prune_to_patterns
    from kilotune.prune.unfold import unfold
    from kilotune.train.recover import answering_loss, recover

    recovery, model, example = work.recovery, work.network.loaded.model, torch.zeros(1, *work.shape)
    images, loss = None, None
    if work.data is not None:
        side = max(recovery.side, recovery.teacher_side)
        images = load(work.data, side, work.settings.seed, work.train_limit).train.images
        few = recovery.view(images[:_N_MEASURED])
        loss = answering_loss(few)
        if work.network.loaded.folded:
            unfold(model, few)
    pruned = prune_channels(model, example, work.settings, loss)
    if work.patterns:
        prune_to_patterns(pruned.model)
    return pruned, [] if images is None else recover(pruned.model, model, images, recovery, work.device)


def _write(work: _Work, pruned: "Narrowed", out: Path) -> None:
    from dataclasses import asdict

    from kilotune.models.pruned import Pruned, metadata
    from kilotune.train.tensors import write_tensors

    loaded = work.network.loaded
    told: dict[str, Any] = {"weights": loaded.source, "patterns": work.patterns} | asdict(work.settings)
    told["recovery"] = None if work.data is None else {"data": work.data} | asdict(work.recovery)
    Pruned(work.network.name, loaded.resolution, loaded.mean, loaded.std, told).attach(pruned.model)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(out, pruned.model.state_dict(), metadata(pruned.model))


def _result(work: _Work, pruned: "Narrowed", agreement: "list[Agreement]", out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    models = {"before": work.network.loaded.model, "after": pruned.model}
    graphs = {when: _captured(model, work.shape) for when, model in models.items()}
    return {
        "out": str(out),
        "model": work.network.name,
        "weights": {when: sum(layer.weight_elements for layer in graph.layers) for when, graph in graphs.items()},
        "macs": {when: graph.macs for when, graph in graphs.items()},
        "layers": [width._asdict() for width in pruned.widths],
        "patterned": [layer.name for layer in graphs["after"].layers if layer.taps],
        "recovery": [asdict(one) for one in agreement],
    }


def _captured(model: "torch.nn.Module", shape: options.Shape) -> "Graph":
    import torch

    from kilotune.graph.capture import capture

    return capture(model, torch.zeros(1, *shape))


def _text(result: dict[str, Any]) -> str:
    from kilotune.report.table import text_table

    widths = text_table(["layer", "channels", "pruned"], [tuple(width.values()) for width in result["layers"]])
    figures = [
        (what, f"{result[key]['before']:,} -> {result[key]['after']:,}")
        for what, key in (("weights", "weights"), ("multiply-adds", "macs"))
    ]
    if result["patterned"]:
        figures.append(("kernels with patterns in", f"{len(result['patterned'])} layers"))
    if result["recovery"]:
        first, last = result["recovery"][0], result["recovery"][-1]
        figures.append(("answers as the original", f"{first['share']:.2%} -> {last['share']:.2%} of held-out images"))
    figures.append(("written to", result["out"]))
    return "\n\n".join([widths, text_table([result["model"], ""], figures, n_left=2)])
