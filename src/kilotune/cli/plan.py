"""``kilotune plan``: what a policy trains inside a budget, and what that costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

if TYPE_CHECKING:
    from kilotune.cli.network import Network
    from kilotune.memory.accounting import Accounting
    from kilotune.memory.ledger import LedgerReport
    from kilotune.policies.fit import Selector
    from kilotune.policies.ranking import Ranking
    from kilotune.train.auto import Choice
    from kilotune.update_plan import Budget, UpdatePlan

AUTO = "auto"
N_MEASURED = 16
_MeasuredOn = Annotated[
    str | None,
    typer.Option("--data", help="With --policy auto: measure the gradient on this data [default: random numbers]"),
]


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
    keep: options.Keep = None,
    data: _MeasuredOn = None,
    optimizer: options.Optimizer = "sgd",
    accumulate: options.Accumulate = True,
    batch: options.Batch = 1,
    streamed: options.Streamed = False,
    program: options.ProgramBytes = 0,
    store: options.StoreSize = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan to this file, as JSON.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw who lives when, and where, to this file.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """What a policy trains inside a memory budget, and what that costs, byte by byte.

    Prints the policy's first draw: channels of each layer, both ledgers, and who lives when. The worst case holds for
    every draw the policy can make. --policy auto compares combinations of policy, layers, biases and --keep by the share
    of the gradient that they capture, and takes the best.
    """
    from kilotune.cli.fitting import Fitter
    from kilotune.cli.network import Network
    from kilotune.memory.accounting import Accounting
    from kilotune.policies import make
    from kilotune.policies.ranking import Ranking
    from kilotune.report.arena_svg import arena_svg
    from kilotune.train.files import write_atomic
    from kilotune.update_plan import Budget

    accounting = Accounting(batch, accumulate, optimizer, streamed=streamed, program_bytes=program)
    scores = Ranking.load(ranking) if ranking else None
    network = Network.load(model, weights, classes, seed)
    limit, given = Budget(budget, ledger), options.parse_policy_options(option)
    if policy == AUTO:
        choices = _search(network, limit, accounting, seed, scores, input, {"--option": given, "--keep": keep}, data)
        selector = choices[0].selector
        assert selector is not None  # ``choose`` puts what fits first
    else:
        choices, chosen, ways = [], make(policy, **given), options.parse_keep(keep)
        selector = Fitter(network, chosen, limit, accounting, seed, scores, ceiling=network.side, keep=ways).fit(input)
    kept = _store(selector, store)
    first = selector.draw()
    report = selector.layout.report(first)
    if out:
        write_atomic(out, first.to_json().encode())
    if svg:
        write_atomic(svg, arena_svg(selector.layout, first).encode())
    head = {"policy": selector.policy.name, "budget_bytes": budget, "ledger": ledger}
    result = head | _facts(selector, first, report) | kept | _comparison(choices)
    if draws:
        result["draws"] = _draws(selector, report, draws)
    emit(result, as_json, lambda: _text(result, selector, first, report))


def _search(
    network: "Network",
    budget: "Budget",
    accounting: "Accounting",
    seed: int,
    ranking: "Ranking | None",
    shape: options.Shape | None,
    fixed: dict[str, Any],
    data: str | None,
) -> "list[Choice]":
    from kilotune.data.sets import load
    from kilotune.train.auto import choose, measure

    for name, value in fixed.items():
        if value:
            raise typer.BadParameter("--policy auto chooses that itself; leave it out", param_hint=f"'{name}'")
    dataset = None if data is None else load(data, train_limit=N_MEASURED, seed=seed)
    graph = network.capture(shape or (3, network.side, network.side))
    x, y = network.examples(graph, dataset, N_MEASURED, seed)
    n_classes = graph.node[graph.output].output.shape[-1]
    return choose(graph, measure(network.loaded.model, graph, x, y % n_classes), budget, seed, accounting, ranking)


def _comparison(choices: "list[Choice]") -> dict[str, Any]:
    """The combinations that were compared, the chosen one first."""
    if not choices:
        return {}
    rows = [
        {
            "arguments": one.candidate.flags,
            "label": one.candidate.label,
            "fits": one.selector is not None,
            "worst_total_bytes": one.worst_bytes,
            "trained_weights": one.n_weights,
            "trained_biases": one.n_biases,
            "fidelity": one.fidelity,
            "gradient_share": one.share,
            "why": one.why,
        }
        for one in choices
    ]
    return {"combinations": rows}


def _comparison_text(rows: list[dict[str, Any]]) -> str:
    from kilotune.report.table import text_table

    head = ["combination", "why", "total B", "weights", "biases", "fidelity", "gradient"]
    lines = [
        [
            row["label"],
            ("chosen: " if number == 0 else "") + row["why"],
            row["worst_total_bytes"],
            row["trained_weights"],
            row["trained_biases"],
            f"{row['fidelity']:.2%}",
            f"{row['gradient_share']:.2%}",
        ]
        if row["fits"]
        else [row["label"], row["why"], "-", "-", "-", "-", "-"]
        for number, row in enumerate(rows)
    ]
    return (
        f"{text_table(head, lines, n_left=2)}\n\nchosen: {rows[0]['arguments']}\n\n"
        "gradient: share of the squared gradient norm of everything but the classifier that the combination trains, on average "
        "over its draws, times fidelity, what the way of keeping leaves of it"
    )


def _facts(selector: "Selector", first: "UpdatePlan", report: "LedgerReport") -> dict[str, Any]:
    from kilotune.cli.ledger import ledger_facts, streaming_facts

    graph, worst = selector.fitting.task.graph, selector.worst_case
    element_bytes = report.accounting.element_bytes
    return (
        {
            "model": graph.model,
            "input": graph.input.shape[1:],
            "first_layer": selector.first_layer,
            **ledger_facts(first, report),
            "worst_case": {
                "parameters_bytes": worst.parameter_elements * element_bytes,
                "selection_elements": worst.selection_elements,
                "selection_bytes": worst.selection_elements * element_bytes,
                "total_bytes": worst.total_bytes,
            },
        }
        | _survey(selector)
        | streaming_facts(selector.layout)
    )


def _store(selector: "Selector", nbytes: int | None) -> dict[str, Any]:
    """What commits of any draw take of a weight store, if there was a question of one. Raises ExportError if it is too small."""
    from kilotune.codegen.store import check_store, flash_of
    from kilotune.codegen.wear import largest_image_bytes

    if nbytes is None:
        return {}
    image = largest_image_bytes(selector)
    check_store(selector.policy.name, image, nbytes)
    return {"store": {"bytes": nbytes, "image_bytes": image, "store_bytes": flash_of(image)}}


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
    blocks = [_comparison_text(result["combinations"])] if "combinations" in result else []
    blocks += [
        f"{result['policy']} on {result['model']} at {shape_text(result['input'])}, budget {budget}",
        *_front_text(result["first_layer"]),
        account_text(graph, first, selector.layout, report),
        f"worst case over all draws: selection {format_bytes(worst['selection_bytes'])}, "
        f"total {format_bytes(worst['total_bytes'])}, parameters {format_bytes(worst['parameters_bytes'])}",
        head_room_text(result["budget_bytes"], worst[f"{result['ledger']}_bytes"]),
    ]
    if "store" in result:
        used, there = (format_bytes(result["store"][key]) for key in ("store_bytes", "bytes"))
        blocks.append(f"weight store: any draw's commits take {used} of {there}")
    if "survey" in result:
        blocks.append(
            f"the oracle's own pass, outside the budget: total {format_bytes(result['survey']['total_bytes'])}, before "
            f"{'each draw' if selector.dynamic else 'the first draw'}; the draw above is uniform, no gradient is known yet"
        )
    if "draws" in result:
        rows = [(number, *draw.values()) for number, draw in enumerate(result["draws"], start=1)]
        blocks.append(text_table(["draw", "selection elements", "total B"], rows))
    return "\n\n".join(blocks)
