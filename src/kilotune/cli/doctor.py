"""``kilotune doctor``: whether a network really trains under a plan."""

from typing import TYPE_CHECKING, Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, note

if TYPE_CHECKING:
    from kilotune.cli.network import Network
    from kilotune.policies.base import Policy
    from kilotune.policies.fit import Selector
    from kilotune.report.doctor import Check
    from kilotune.update_plan import Budget, Ledger

N_EXAMPLES = 8
# Without a budget: enough of the network to train visibly, little enough that redraws differ.
DEFAULT_SHARE = 1 / 4

Data = Annotated[
    str | None,
    typer.Option(help="Take the batch from this data set, see `kilotune finetune --help` [default: random numbers]"),
]


def doctor(
    model: options.Model,
    weights: options.Weights = None,
    data: Data = None,
    policy: options.PolicyName = "medyate",
    budget: options.OptionalBudget = None,
    ledger: options.Ledger = "total",
    input: options.FittingInput = None,
    classes: options.Classes = None,
    seed: options.Seed = 0,
    option: options.PolicyOptions = None,
    as_json: options.AsJson = False,
) -> None:
    """Check that a network really trains under a plan; exit code 1 if one check fails.

    Without --budget the plan takes a quarter of dense training in the selection ledger. Without --data the batch is of
    random numbers. Nothing is written.
    """
    from kilotune.cli.network import Network, shape_text
    from kilotune.data.sets import load
    from kilotune.policies import make
    from kilotune.report.case import Case, settle
    from kilotune.report.doctor import examine

    dataset = None if data is None else load(data, train_limit=N_EXAMPLES, seed=seed)
    network = Network.load(model, weights, classes or (dataset.n_classes if dataset else None), seed)
    selector, limit = _select(
        network, make(policy, **options.parse_policy_options(option)), budget, ledger, input, seed
    )
    graph = selector.fitting.task.graph
    x, y = network.examples(graph, dataset, N_EXAMPLES, seed)
    if settled := settle(network.loaded.model, x):
        note(f"{settled} batch norms have never seen data; their statistics are taken from the batch first")
    checks = examine(Case.of(network.loaded.model, graph, selector, limit, x, y))
    passed = all(check.passed for check in checks)
    facts = {"model": model, "input": graph.input.shape[1:], "policy": policy, "data": data, "passed": passed}
    title = f"{model} at {shape_text(graph.input.shape[1:])}, {policy}, budget {limit}"
    emit(facts | {"checks": checks}, as_json, lambda: _text(title, checks))
    if not passed:
        raise typer.Exit(1)


def _select(
    network: "Network",
    policy: "Policy",
    budget: int | None,
    ledger: "Ledger",
    shape: options.Shape | None,
    seed: int,
) -> tuple["Selector", "Budget"]:
    from kilotune.cli.fitting import Fitter
    from kilotune.memory.accounting import Accounting
    from kilotune.update_plan import Budget

    fitter = Fitter(network, policy, Budget(budget or 0, ledger), Accounting(), seed, ceiling=network.side)
    if budget is None:
        given = shape or (3, network.side, network.side)
        dense = network.capture(given).selection_total_elements * fitter.accounting.element_bytes
        fitter.budget = Budget(int(DEFAULT_SHARE * dense), "selection")
        return fitter.fit(given), fitter.budget
    return fitter.fit(shape), fitter.budget


def _text(title: str, checks: list["Check"]) -> str:
    from kilotune.report.table import text_table

    rows = [("ok" if check.passed else "FAILED", check.name, check.detail) for check in checks]
    n_failed = sum(not check.passed for check in checks)
    verdict = f"{n_failed} of {len(checks)} checks failed" if n_failed else f"all {len(checks)} checks passed"
    return "\n\n".join([title, text_table(("", "check", "seen"), rows, n_left=3), verdict])
