"""What an oracle's own pass costs: the gradient of whole layers, summed over many steps, while no weight changes."""

from dataclasses import replace

from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout, LedgerReport
from kilotune.update_plan import ChannelSet, UpdatePlan


def survey_plan(graph: Graph, layers: tuple[str, ...], element_bytes: int = 4) -> UpdatePlan:
    """All channels of ``layers`` and nothing else; what stays between the pass and the draw is one norm per channel."""
    chosen = [graph.find_layer(name) for name in layers]
    sets = tuple(ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in chosen)
    n_norms = sum(layer.in_channels for layer in chosen)
    return UpdatePlan(sets, classifier=False, state_bytes=n_norms * element_bytes)


def survey_report(graph: Graph, layers: tuple[str, ...], accounting: Accounting) -> LedgerReport:
    """The ledger of one step of the pass: gradients are summed, weights have no overlay and the optimiser no state."""
    passing = replace(accounting, accumulate=True, updates=False)
    plan = survey_plan(graph, layers, accounting.element_bytes)
    return Layout.of(graph, layers, (), False, passing).report(plan)
