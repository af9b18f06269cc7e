"""``kilotune finetune``: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, log_on_stderr, use_threads

if TYPE_CHECKING:
    from kilotune.data.images import Dataset
    from kilotune.train.recipe import Recipe
    from kilotune.train.record import Record

_Backend = Annotated[
    Literal["torch", "c"],
    typer.Option(
        help="Who computes gradients: PyTorch, or the C of `kilotune export`, compiled for this computer by gcc."
    ),
]
_Out = Annotated[Path | None, typer.Option(help="Folder of the run [default: runs/<model>-<data>-<policy>-<seed>]")]


def finetune(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A model of the zoo, or your own as module:callable.")],
    data: options.Data,
    weights: options.Weights = None,
    budget: options.OptionalBudget = None,
    ledger: options.Ledger = "total",
    streamed: options.Streamed = False,
    program: options.ProgramBytes = 0,
    policy: options.PolicyName = "medyate",
    option: options.PolicyOptions = None,
    keep: options.Keep = None,
    ranking: options.RankingFile = None,
    redraw: options.Redraw = "policy",
    input: options.FittingInput = None,
    epochs: options.Epochs = 10,
    lr: options.LearningRate = 0.02,
    batch_size: options.BatchSize = 32,
    optimizer: options.Optimizer = "sgd",
    augment: options.Augment = "crop",
    train_limit: options.TrainLimit = None,
    eval_limit: options.EvalLimit = None,
    seed: options.Seed = 0,
    precision: options.Precision = "float32",
    channels_last: options.ChannelsLast = True,
    device: options.Device = "auto",
    backend: _Backend = "torch",
    threads: options.Threads = None,
    out: _Out = None,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a network on a data set inside a memory budget.

    The selection is the largest whose every draw fits the budget. Writes a run folder: the record run.json, the tuned
    weights, update.safetensors (what changed), a checkpoint per epoch, and a log. After Ctrl-C, `kilotune resume` goes
    on where the last epoch ended.
    """
    use_threads(threads)
    folder = out or Path("runs") / _folder_name(model, data, policy, seed)
    emit_summary(folder, _carry_out(_recipe(context.params), folder), as_json)


def _recipe(given: dict[str, Any]) -> "Recipe":
    """The recipe that the command line describes; options have the names of its fields."""
    from kilotune.train.recipe import Recipe

    fields = {name: given[name] for name in Recipe.__struct_fields__ if name in given}
    shape = given["input"] and list(given["input"])
    ranking = given["ranking"] and str(given["ranking"])
    chosen = {"input": shape, "options": options.parse_policy_options(given["option"]), "ranking": ranking}
    return Recipe.of(**fields | chosen | {"keep": options.parse_keep(given["keep"])})


def _carry_out(recipe: "Recipe", folder: Path) -> "Record":
    from kilotune.deploy.trainer import TUNERS
    from kilotune.train import run

    _refuse_overwriting(folder)
    dataset = None
    if recipe.input is None:
        dataset = _glance(recipe)
        recipe = recipe.but(input=_default_input(recipe, dataset))
        # The images of a folder are read at the size of the input, which is known only now.
        dataset = None if _is_folder(recipe) else dataset
    with log_on_stderr():
        return run.finetune(recipe, folder, dataset=dataset, tuners=TUNERS)


def _is_folder(recipe: "Recipe") -> bool:
    return Path(recipe.data or "").is_dir()


def _glance(recipe: "Recipe") -> "Dataset":
    """The data; of a folder, where only classes and channels can be known yet, one training image, as small as possible."""
    from kilotune.data.sets import load

    assert recipe.data is not None
    if _is_folder(recipe):
        return load(recipe.data, size=1, seed=recipe.seed, train_limit=1)
    return load(recipe.data, seed=recipe.seed, train_limit=recipe.train_limit)


def emit_summary(folder: Path, record: "Record", as_json: bool) -> None:
    """Print the result of a run."""
    result = {"run": str(folder)} | record.summary()
    emit(result, as_json, lambda: _summary_text(result))


def _summary_text(result: dict[str, Any]) -> str:
    from kilotune.report.table import text_table
    from kilotune.units import format_bytes

    ledger = result["ledger"]
    rows = [
        (
            epoch["epoch"],
            f"{epoch['loss']:.4f}",
            f"{epoch['val_loss']:.4f}",
            f"{epoch['accuracy']:.2%}",
            epoch["total_bytes"],
            f"{epoch['seconds']:.1f}",
        )
        for epoch in result["epochs"]
    ]
    figures = [
        ("accuracy before", f"{result['accuracy_before']:.2%}"),
        ("accuracy", f"{result['accuracy']:.2%}, best {result['best_accuracy']:.2%}"),
        ("selection ledger", format_bytes(ledger["selection_bytes"])),
        ("saved for backward", format_bytes(ledger["saved_bytes"])),
        (
            "total ledger",
            f"{format_bytes(ledger['total_bytes'])}, worst case {format_bytes(ledger['worst_total_bytes'])}",
        ),
        *_survey_rows(result["survey"]),
        *_capped_rows(result["epochs"]),
        ("time", f"{result['seconds']:.1f} s"),
        ("run", result["run"]),
    ]
    epochs = text_table(["epoch", "loss", "val loss", "accuracy", "total B", "s"], rows)
    return "\n\n".join([epochs, text_table([result["policy"], result["status"]], figures, n_left=2)])


def _survey_rows(survey: dict[str, int] | None) -> list[tuple[str, str]]:
    """A line on what an oracle did outside the budget."""
    from kilotune.units import format_bytes

    if survey is None:
        return []
    passes = f"{survey['passes']} of {survey['steps']:,} steps together"
    return [("oracle's passes", f"{passes}, {format_bytes(survey['total_bytes'])} total, outside the budget")]


def _capped_rows(epochs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """A line on kept inputs whose ranks the cap cut, where it did."""
    most = max((epoch["capped"] for epoch in epochs), default=0.0)
    return (
        [("cap of kept inputs", f"met by up to {most:.1%} of them in an epoch; the log names the layers")]
        if most
        else []
    )


def _folder_name(model: str, data: str, policy: str, seed: int) -> str:
    names = model.replace(":", "."), Path(data).resolve().stem, policy
    return "-".join([*names, str(seed)])


def _refuse_overwriting(folder: Path) -> None:
    from kilotune.errors import RunError

    if (folder / "run.json").exists():
        raise RunError(f"{folder} already holds a run; go on with `kilotune resume {folder}`, or choose another --out")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, a run needs a folder; choose another --out")


def _default_input(recipe: "Recipe", dataset: "Dataset") -> tuple[int, ...]:
    """See ``options.FittingInput``; without a budget, the size of the weights."""
    from kilotune.cli.fitting import Fitter
    from kilotune.cli.network import Network
    from kilotune.policies import make
    from kilotune.policies.ranking import Ranking
    from kilotune.train.selection import accounting_of
    from kilotune.update_plan import Budget

    assert recipe.model is not None
    network = Network.load(recipe.model, recipe.weights, dataset.n_classes, recipe.seed)
    if recipe.budget is None or dataset.train.is_text:
        return network.shape_for(dataset)
    channels, ceiling, _ = network.shape_for(dataset)
    policy, budget = make(recipe.policy, **recipe.options), Budget.parse(recipe.budget, recipe.ledger)
    ranking = Ranking.load(Path(recipe.ranking)) if recipe.ranking else None
    fitter = Fitter(
        network, policy, budget, accounting_of(recipe), recipe.seed, ranking, channels, ceiling, recipe.keep
    )
    return fitter.fit(None).fitting.task.graph.input.shape[1:]
