"""``kilotune plan``: what a policy trains inside a budget, and what that costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

if TYPE_CHECKING:
    from kilotune.memory.ledger import LedgerReport
    from kilotune.policies.fit import Selector
    from kilotune.update_plan import UpdatePlan


def plan(
    model: options.Model,
    budget: options.Budget,
    policy: options.PolicyName = "medyate",
    ledger: options.Ledger = "total",
    seed: options.Seed = 0,
    draws: Annotated[int, typer.Option(min=0, help="Also list the bytes of so many draws, one after another.")] = 0,
    input: options.FittingInput = None,
    classes: options.Classes = None,
    weights: options.Weights = None,
    ranking: options.RankingFile = None,
    option: options.PolicyOptions = None,
    optimizer: options.Optimizer = "sgd",
    accumulate: options.Accumulate = True,
    batch: options.Batch = 1,
    out: Annotated[Path | None, typer.Option(help="Write the plan to this file, as JSON.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """What a policy trains inside a memory budget, and what that costs, byte by byte.

    Prints the policy's first draw: channels of each layer, both ledgers, and who lives when. The worst case holds for
    every draw the policy can make.
    """
    from kilotune.cli.fitting import Fitter
    from kilotune.cli.network import Network
    from kilotune.memory.ledger import Accounting
    from kilotune.policies import make
    from kilotune.policies.ranking import Ranking
    from kilotune.train.files import write_atomic
    from kilotune.update_plan import Budget

    chosen_policy = make(policy, **options.parse_policy_options(option))
    accounting = Accounting(batch, accumulate, optimizer)
    scores = Ranking.load(ranking) if ranking else None
    network = Network.load(model, weights, classes, seed)
    limit = Budget(budget, ledger)
    selector = Fitter(network, chosen_policy, limit, accounting, seed, scores, ceiling=network.side).fit(input)
    first = selector.draw()
    report = selector.layout.report(first)
    if out:
        write_atomic(out, first.to_json().encode())
    result = {"policy": policy, "budget_bytes": budget, "ledger": ledger} | _facts(selector, first, report)
    if draws:
        result["draws"] = _draws(selector, report, draws)
    emit(result, as_json, lambda: _text(result, selector, first, report))


def _facts(selector: "Selector", first: "UpdatePlan", report: "LedgerReport") -> dict[str, Any]:
    from kilotune.cli.ledger import ledger_facts

    graph, worst = selector.fitting.task.graph, selector.worst_case
    selected_bytes = worst.selection_elements * report.accounting.element_bytes
    return {
        "model": graph.model,
        "input": graph.input.shape[1:],
        "first_layer": selector.first_layer,
        **ledger_facts(first, report),
        "worst_case": {
            "selection_elements": worst.selection_elements,
            "selection_bytes": selected_bytes,
            "total_bytes": worst.total_bytes,
        },
    } | _survey(selector)


def _survey(selector: "Selector") -> dict[str, Any]:
    """What an oracle's pass costs on top; nothing for other policies."""
    report = selector.survey
    if report is None:
        return {}
    return {"survey": {"total_bytes": report.total_bytes, "saved_bytes": report.saved_bytes, "by_kind": report.by_kind}}


def _front_text(first_layer: str | None) -> list[str]:
    if first_layer is None:
        return []
    return [f"layers before {first_layer} are left out: with them less than three quarters as much would fit"]


def _draws(selector: "Selector", first: "LedgerReport", n_draws: int) -> list[dict[str, int]]:
    reports = [first, *(selector.layout.report(selector.draw()) for _ in range(n_draws - 1))]
    return [{"selection_elements": one.selection_elements, "total_bytes": one.total_bytes} for one in reports]


def _text(result: dict[str, Any], selector: "Selector", first: "UpdatePlan", report: "LedgerReport") -> str:
    from kilotune.cli.network import shape_text
    from kilotune.report.accounts import account_text, head_room_text
    from kilotune.report.table import text_table
    from kilotune.units import format_bytes

    graph, worst = selector.fitting.task.graph, result["worst_case"]
    budget = f"{format_bytes(result['budget_bytes'])} ({result['ledger']} ledger)"
    blocks = [
        f"{result['policy']} on {result['model']} at {shape_text(result['input'])}, budget {budget}",
        *_front_text(result["first_layer"]),
        account_text(graph, first, selector.layout, report),
        f"worst case over all draws: selection {format_bytes(worst['selection_bytes'])}, "
        f"total {format_bytes(worst['total_bytes'])}",
        head_room_text(result["budget_bytes"], worst[f"{result['ledger']}_bytes"]),
    ]
    if "survey" in result:
        blocks.append(
            f"the oracle's own pass, outside the budget: total {format_bytes(result['survey']['total_bytes'])}, before "
            f"{'each draw' if selector.dynamic else 'the first draw'}; the draw above is uniform, no gradient is known yet"
        )
    if "draws" in result:
        rows = [(number, *draw.values()) for number, draw in enumerate(result["draws"], start=1)]
        blocks.append(text_table(["draw", "selection elements", "total B"], rows))
    return "\n\n".join(blocks)
