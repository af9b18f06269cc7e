"""``kilotune export``: a C project from a run, or from a network and a policy."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

if TYPE_CHECKING:
    from kilotune.deploy.export import Export

_Source = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder; or a model of the zoo or your own as module:callable.")
]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder to write; it must not be there, or be empty.")]
_Dtype = Annotated[
    Literal["float32", "float16", "int8"],
    typer.Option(help="How frozen weights lie in flash; arithmetic is in float32 either way."),
]
_FOR_MODELS = (
    *("streamed", "program", "plan", "weights", "policy", "budget", "ledger", "option", "ranking", "keep", "input"),
    *("classes", "lr", "optimizer", "seed"),
)
"""Parameters that the recipe of a run answers."""

_OF_PLANS = ("policy", "option", "ranking", "keep")
"""Parameters that a plan file answers."""

_Plan = Annotated[Path | None, typer.Option(help="For a model: train what this plan file says.")]


def export(
    context: typer.Context,
    source: _Source,
    out: _Out,
    weights_dtype: _Dtype = "float32",
    accumulate: options.Accumulate = True,
    streamed: options.Streamed = False,
    program: options.ProgramBytes = 0,
    store: options.StoreSize = None,
    plan: _Plan = None,
    weights: options.Weights = None,
    policy: options.PolicyName = "medyate",
    budget: options.OptionalBudget = None,
    ledger: options.Ledger = "total",
    option: options.PolicyOptions = None,
    ranking: options.RankingFile = None,
    keep: options.Keep = None,
    input: options.Input = None,
    classes: options.Classes = None,
    lr: options.LearningRate = 0.02,
    optimizer: options.Optimizer = "sgd",
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Write a C project: plain C99 that infers and trains on one sample after another in the memory of the ledger.

    From a run folder it takes the tuned network and goes on with the run's policy and optimiser; --streamed, --program and
    the options from --plan on are for a model that no run has trained. `kilotune verify` compares the project with PyTorch,
    `kilotune emulate` runs it.
    """
    from kilotune.deploy.export import Export
    from kilotune.train.run import open_run
    from kilotune.units import format_bytes

    if Path(source).is_dir():
        options.refuse_given(context, _FOR_MODELS, "a run goes on as its recipe says; leave it out, or export a model")
        what = Export.of_run(open_run(source), weights_dtype, accumulate, store)
    else:
        options.refuse_given(context, _OF_PLANS if plan else (), "the plan says what is trained and how; leave it out")
        fields: dict[str, Any] = {
            "weights": weights,
            "policy": policy,
            "budget": budget,
            "ledger": ledger,
            "ranking": ranking,
            "keep": options.parse_keep(keep),
            "input": input,
            "streamed": streamed,
            "program": program,
        }
        fields |= {"options": options.parse_policy_options(option), "lr": lr, "optimizer": optimizer, "seed": seed}
        what = replace(_of_model(source, classes, fields, plan, weights_dtype, accumulate), store_bytes=store)
    manifest = what.write(out)
    result = {"dir": str(out)} | {
        name: getattr(manifest, name) for name in ("arena_bytes", "ram_bytes", "flash_bytes", "store_bytes")
    }
    emit(
        result | {"memory": manifest.memory},
        as_json,
        lambda: (
            f"{out}: arena {format_bytes(manifest.arena_bytes)}, RAM {format_bytes(manifest.ram_bytes)}, "
            f"constants in flash {format_bytes(manifest.flash_bytes)}, weight store {format_bytes(manifest.store_bytes)}"
        ),
    )


def _of_model(
    name: str, classes: int | None, fields: dict[str, Any], plan: Path | None, weights_dtype: Any, accumulate: bool
) -> "Export":
    from kilotune import models
    from kilotune.cli.ledger import read_plan
    from kilotune.cli.network import PAPER_SIDE
    from kilotune.deploy.export import Export
    from kilotune.train.recipe import Recipe

    loaded = models.load(name, fields["weights"], classes, fields["seed"])
    side = loaded.resolution or PAPER_SIDE
    fields["input"] = fields["input"] or (3, side, side)
    recipe = Recipe.of(model=name, mean=(loaded.mean,), std=(loaded.std,), **fields)
    given = None if plan is None else read_plan(plan)
    return Export(loaded.model, recipe, weights_dtype, accumulate, given)
