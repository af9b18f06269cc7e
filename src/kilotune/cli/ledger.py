"""``kilotune ledger``: what a plan file costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

if TYPE_CHECKING:
    from kilotune.memory.ledger import Layout, LedgerReport
    from kilotune.update_plan import UpdatePlan


def ledger(
    model: options.Model,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan written by `kilotune plan --out`.")],
    input: options.Input = None,
    classes: options.Classes = None,
    weights: options.Weights = None,
    optimizer: options.Optimizer = "sgd",
    accumulate: options.Accumulate = True,
    batch: options.Batch = 1,
    streamed: options.Streamed = False,
    program: options.ProgramBytes = 0,
    commits: Annotated[
        int | None,
        typer.Option(
            min=1, help="Draws in an epoch, each of which commits to the weight store: also show what that costs."
        ),
    ] = None,
    erases: Annotated[int, typer.Option(min=1, help="Erases that a page of the weight store survives.")] = 10_000,
    as_json: options.AsJson = False,
) -> None:
    """What a plan file costs on a network: channels of each layer, both ledgers, and who lives when.

    With --commits also the wear of the weight store of a device whose policy draws again and again.
    """
    from kilotune.cli.network import Network
    from kilotune.codegen.wear import wear
    from kilotune.memory.accounting import Accounting
    from kilotune.memory.ledger import Layout
    from kilotune.report.accounts import account_text
    from kilotune.report.wear import wear_text

    update = read_plan(plan)
    network = Network.load(model, weights, classes)
    graph = network.capture(input or (3, network.side, network.side))
    accounting = Accounting(batch, accumulate, optimizer, streamed=streamed, program_bytes=program)
    layout = Layout.of_plan(graph, update, accounting)
    report = layout.report(update)
    facts = {"model": model, "input": graph.input.shape[1:]} | ledger_facts(update, report) | streaming_facts(layout)
    store = wear(layout, update, commits, erases) if commits else None
    facts |= {"store": store._asdict()} if store else {}
    text = [] if store is None else [wear_text(store)]
    emit(facts, as_json, lambda: "\n\n".join([account_text(graph, update, layout, report), *text]))


def ledger_facts(update: "UpdatePlan", report: "LedgerReport") -> dict[str, Any]:
    """Both ledgers of a plan and the plan itself, as JSON data."""
    parameters = report.weight_elements
    return {
        "parameters": {"elements": parameters, "bytes": parameters * report.accounting.element_bytes},
        "selection": {
            "elements": report.selection_elements,
            "bytes": report.selection_bytes,
            "weight_elements": report.weight_elements,
            "activation_elements": report.activation_elements,
        },
        "total": {
            "bytes": report.total_bytes,
            "by_kind": report.by_kind,
            "peak_step": report.peak_step,
            "lower_bound_bytes": report.lower_bound_bytes,
        },
        "saved": {"bytes": report.saved_bytes, "by_layer": report.by_layer},
        "channels": update.channels,
        "biases": update.biases,
        "classifier": update.classifier,
        "keeps": update.keeps,
    }


def streaming_facts(layout: "Layout") -> dict[str, Any]:
    """What streaming each segment does, as JSON data; nothing where the total is not that of a firmware."""
    from kilotune.memory.streaming import trades

    return {"streaming": [trade._asdict() for trade in trades(layout.timeline)]} if layout.accounting.streamed else {}


def read_plan(path: Path) -> "UpdatePlan":
    """The plan of a file. Raises PlanError if there is none, or it is something else."""
    from kilotune.errors import PlanError
    from kilotune.update_plan import UpdatePlan

    try:
        return UpdatePlan.from_json(path.read_bytes())
    except OSError as error:
        raise PlanError(
            f"cannot read the plan {path}: {error.strerror}; write one with `kilotune plan --out`"
        ) from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error
