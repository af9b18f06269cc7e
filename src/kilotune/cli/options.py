"""Arguments that several commands share, each with one help text."""

from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kilotune.errors import BudgetError
from kilotune.units import parse_bytes


class Shape(tuple[int, ...]):
    """Size of one input: (c, h, w) of an image, (t,) of a text of t token ids."""


def _parse_shape(text: str) -> Shape:
    sizes = text.lower().split("x")
    if len(sizes) not in (1, 3) or not all(size.isdigit() and int(size) for size in sizes):
        raise typer.BadParameter(
            f"{text!r} is not an input size; write channels x height x width, such as 3x128x128, or a number of token ids"
        )
    return Shape(map(int, sizes))


def _parse_budget(text: str) -> int:
    try:
        return parse_bytes(text)
    except BudgetError as error:
        raise typer.BadParameter(str(error)) from error


def _parse_store(text: str) -> int:
    return 0 if text == "0" else _parse_budget(text)


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < inf:
        raise typer.BadParameter(f"{text!r} is no learning rate; write a number above 0, such as 0.02")
    return rate


def _parse_redraw(text: str) -> str | int:
    if text in ("policy", "never", "epoch", "step"):
        return text
    if not text.isdigit() or int(text) == 0:
        raise typer.BadParameter(f"{text!r} is none of policy, never, epoch, step, or a number of steps from 1 on")
    return int(text)


def refuse_given(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Raises a usage error where one of the parameters was given on the command line; why: what to do instead."""
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [options[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        raise typer.BadParameter(why, param_hint=", ".join(f"'{option}'" for option in given))


def parse_policy_options(given: list[str] | None) -> dict[str, Any]:
    """``["k=3"]`` -> ``{"k": "3"}``; the policy converts the values. Raises a usage error where there is no ``=``."""
    pairs = [text.partition("=") for text in given or ()]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not name=value", param_hint="'--option'")
    return {name: value for name, _, value in pairs}


def parse_keep(given: str | None) -> str | dict[str, str] | None:
    """A way of keeping for all layers, ``LAYER=WAY,LAYER=WAY``, or those of a .json file. Raises PlanError if it is none."""
    from kilotune.graph.ways import parse_way, read_ways

    if given is None:
        return None
    if given.endswith(".json"):
        return read_ways(Path(given))
    if "=" not in given:
        return str(parse_way(given))
    return {layer: str(parse_way(way)) for layer, _, way in (pair.partition("=") for pair in given.split(","))}


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the zoo, or your own as module:callable.")]
Weights = Annotated[
    str | None,
    typer.Option(help="A .safetensors, .pt or .pth file, or an entry of $KILOTUNE_DATA/weights/models.json."),
]
Classes = Annotated[
    int | None, typer.Option(min=1, help="Number of classes [default: those of the weights, or of the model]")
]
Input = Annotated[
    Shape | None,
    typer.Option(
        parser=_parse_shape,
        metavar="CxHxW",
        help="Input size; one number is a number of token ids [default: that of the weights, 128x128 where it is unknown]",
    ),
]
FittingInput = Annotated[
    Shape | None,
    typer.Option(
        parser=_parse_shape,
        metavar="CxHxW",
        help="Input size; one number is a number of token ids. Default for images with the total ledger: the largest "
        "square, in steps of 8 up to the size of the weights (128 where it is unknown), at which the worst case of the "
        "policy fits the budget with at least 1/32 of it spent on trained channels. Default with the selection ledger: "
        "128x128, the size of the papers.",
    ),
]
Budget = Annotated[
    int,
    typer.Option(parser=_parse_budget, metavar="B", help="Memory that is never exceeded: 256KiB, 1.5MiB, 65536."),
]
StoreSize = Annotated[
    int | None,
    typer.Option(
        parser=_parse_store,
        metavar="B",
        help="Flash or external RAM for what draws have trained: 64KiB, or 0 if there is none [default: what the policy needs]",
    ),
]
OptionalBudget = Annotated[
    int | None,
    typer.Option(
        parser=_parse_budget,
        metavar="B",
        help="Memory that is never exceeded: 256KiB, 1.5MiB, 65536 [default: no limit]",
    ),
]
Ram = Annotated[
    int | None,
    typer.Option(
        parser=_parse_budget,
        metavar="R",
        help="RAM of the board: what does not fit fails when linking, an access beyond it faults [default: all it has]",
    ),
]
Ledger = Annotated[
    Literal["total", "selection", "parameters"],
    typer.Option(
        help="What the budget counts: all RAM of a training step at batch 1, or weights + inputs of the chosen "
        "channels as in the papers, or their weights only."
    ),
]
PolicyName = Annotated[
    str,
    typer.Option(
        help="How channels are chosen: full, classifier, bias, last, sparse_update, random, static_random, "
        "topk_random_static, trady, medyate, dgsu, velocity, velocity_input, neq, random_neurons; for plan also auto, which "
        "compares combinations; oracles, which look at the full gradient outside the budget: det_raw, static_det_raw, "
        "det_rgn, static_det_rgn, prob_raw, fisher."
    ),
]
PolicyOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="An option of the policy; may be given several times."),
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="WAY",
        help="How trained layers keep their inputs for backward: int8, int4, prune:SHARE, filter:PATCH, svd:ENERGY, "
        "hosvd:ENERGY, asi:RANK, lance:RANK; LAYER=WAY,LAYER=WAY; or a .json file of ways by layer, as `kilotune "
        "calibrate` writes it [default: exactly].",
    ),
]
RankingFile = Annotated[
    Path | None,
    typer.Option(help="Layer ranking made by `kilotune rank` [default: the one shipped, or one from layer shapes]"),
]
Data = Annotated[
    str,
    typer.Option(
        help="cifar10, cifar100, flowers102 or vww96 in $KILOTUNE_DATA, a folder of images, or an .npz file of images or "
        "token ids."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Decides every random choice.")]
Optimizer = Annotated[str, typer.Option(help="sgd, momentum, rmsprop, adagrad, adam or adamw.")]
Accumulate = Annotated[
    bool,
    typer.Option(
        "--accumulate/--no-accumulate",
        help="Whether gradients are summed over several samples before an update, which takes a buffer that stays.",
    ),
]
Streamed = Annotated[
    bool,
    typer.Option(
        "--streamed/--plain",
        help="Count a firmware: blocks are streamed where that saves memory, and gradients that are not summed are applied "
        "one channel at a time. PyTorch does neither, so such a plan is for a device.",
    ),
]
ProgramBytes = Annotated[
    int,
    typer.Option("--program", parser=_parse_budget, metavar="B", help="RAM of a firmware's stack, .data and .bss."),
]
Batch = Annotated[int, typer.Option(min=1, help="Samples in memory at once.")]
TrainLimit = Annotated[int | None, typer.Option(min=1, help="Train on at most so many images.")]
EvalLimit = Annotated[int | None, typer.Option(min=1, help="Evaluate on at most so many images.")]
Epochs = Annotated[int, typer.Option(min=1, help="Epochs, warm-up included.")]
LearningRate = Annotated[float, typer.Option(parser=_parse_rate, metavar="R", help="Peak learning rate.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per optimiser step.")]
Redraw = Annotated[
    str,
    typer.Option(
        parser=_parse_redraw,
        metavar="WHEN",
        help="When a new selection is drawn: policy (as its paper does), never, epoch, step, or a number of steps.",
    ),
]
Augment = Annotated[str, typer.Option(help="How training images are varied: crop, shift or none.")]
Precision = Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="Number format of activations.")]
ChannelsLast = Annotated[bool, typer.Option(help="Memory layout of activations, the faster one on most machines.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads [default: all cores]")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
