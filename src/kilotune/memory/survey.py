"""What an oracle's own pass costs: the gradient of whole layers, summed over many steps, while no weight changes."""

from dataclasses import replace

from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout, LedgerReport
from kilotune.update_plan import Axis, ChannelSet, UpdatePlan


def whole_layers(graph: Graph, layers: tuple[str, ...], axis: Axis = "in") -> UpdatePlan:
    """All units of ``layers`` along ``axis`` and nothing else."""
    chosen = [graph.find_layer(name) for name in layers]
    counts = [layer.in_channels if axis == "in" else layer.out_channels for layer in chosen]
    sets = [ChannelSet(layer.name, axis, tuple(range(n))) for layer, n in zip(chosen, counts, strict=True)]
    return UpdatePlan(tuple(sets), classifier=False)


def survey_report(graph: Graph, layers: tuple[str, ...], accounting: Accounting) -> LedgerReport:
    """The ledger of one step of the pass over all input channels of ``layers``.

    Gradients are summed, weights have no overlay and the optimiser no state; one norm per channel stays until the draw.
    """
    passing = replace(accounting, accumulate=True, updates=False)
    n_channels = sum(graph.find_layer(name).in_channels for name in layers)
    plan = replace(whole_layers(graph, layers), state_bytes=n_channels * accounting.element_bytes)
    return Layout.of(graph, layers, (), False, passing).report(plan)
