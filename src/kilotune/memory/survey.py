"""What an oracle's own pass costs: the gradient of whole layers, summed over many steps, while no weight changes."""

from dataclasses import replace

from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout, LedgerReport
from kilotune.update_plan import Axis, UpdatePlan


def whole_layers(graph: Graph, layers: tuple[str, ...], axis: Axis = "in") -> UpdatePlan:
    """All units of ``layers`` along ``axis`` and nothing else."""
    return UpdatePlan(tuple(graph.find_layer(name).whole(axis) for name in layers), classifier=False)


def survey_report(graph: Graph, layers: tuple[str, ...], accounting: Accounting) -> LedgerReport:
    """The ledger of one step of the pass over all input channels of ``layers``.

    Gradients are summed, weights have no overlay and the optimiser no state; one norm per channel stays until the draw.
    """
    passing = replace(accounting, accumulate=True, updates=False)
    n_channels = sum(graph.find_layer(name).in_channels for name in layers)
    plan = replace(whole_layers(graph, layers), state_bytes=n_channels * accounting.element_bytes)
    return Layout.of(graph, layers, (), False, passing).report(plan)
