"""What a plan costs, as text: layer by layer, both ledgers, and what is alive when."""

from kilotune.graph.keeping import ways_of
from kilotune.graph.node import Graph
from kilotune.memory.cost import chosen_cost
from kilotune.memory.ledger import Layout, LedgerReport
from kilotune.memory.streaming import trades
from kilotune.report.picture import picture, step_name
from kilotune.report.table import text_table
from kilotune.units import format_bytes, kib
from kilotune.update_plan import UpdatePlan


def layers_text(graph: Graph, plan: UpdatePlan, report: LedgerReport) -> str:
    """A row for each layer that the plan trains, in the ``selection`` ledger; "kept" is what autograd keeps for it."""
    rows: list[list[object]] = []
    element_bytes, ways = report.accounting.element_bytes, ways_of(plan.keeps)
    for chosen in plan.channels:
        layer = graph.find_layer(chosen.layer)
        n_channels = {"in": layer.in_channels, "out": layer.out_channels}[chosen.axis]
        weights, kept, state = chosen_cost(graph, chosen, ways)
        inputs = kept + state
        share = f"{len(chosen.indices)}/{n_channels}"
        rows.append([chosen.layer, chosen.axis, share, weights, inputs, (weights + inputs) * element_bytes])
    rows.append(["sum", "", "", report.weight_elements, report.activation_elements, report.selection_bytes])
    return text_table(["layer", "axis", "channels", "weights", "inputs", "B"], rows, n_left=2)


def fixed_text(graph: Graph, plan: UpdatePlan) -> str:
    """What is trained besides channels."""
    biases = f"biases: {len(plan.biases)} layer(s)" if plan.biases else "no biases"
    head = f"the classifier {graph.classifier}" if plan.classifier and graph.classifier else "no classifier"
    ways = dict.fromkeys(keep.way for keep in plan.keeps)
    kept = f"; inputs kept as {', '.join(ways)} ({len(plan.keeps)} layer(s))" if ways else ""
    return f"trained besides: {head}, {biases}{kept}"


def ledgers_text(layout: Layout, report: LedgerReport) -> str:
    """Both ledgers, and what the fullest step consists of."""
    peak = step_name(layout, layout.timeline.names.index(report.peak_step))
    above = report.total_bytes / report.lower_bound_bytes - 1
    figures = [
        ("selection", report.selection_bytes, f"{report.selection_elements:,} elements of chosen channels at batch 1"),
        ("saved", report.saved_bytes, "kept from forward to backward, input image and parameters excluded"),
        ("total", report.total_bytes, f"all RAM of a training step; fullest at: {peak}"),
        ("lower bound", report.lower_bound_bytes, f"no placement needs less; the total is {above:.2%} above"),
    ]
    kinds = [
        (kind, nbytes, f"{nbytes / report.total_bytes:.1%}")
        for kind, nbytes in sorted(report.by_kind.items(), key=lambda item: -item[1])
        if nbytes
    ]
    return "\n\n".join([_bytes_table("ledger", figures, "what"), _bytes_table("total by kind", kinds, "share")])


def account_text(graph: Graph, plan: UpdatePlan, layout: Layout, report: LedgerReport) -> str:
    """Everything above, and the picture of the step."""
    return "\n\n".join(
        [
            layers_text(graph, plan, report),
            fixed_text(graph, plan),
            ledgers_text(layout, report),
            *streaming_text(layout),
            picture(layout, plan),
        ]
    )


def streaming_text(layout: Layout) -> list[str]:
    """A row for each streamed segment: bytes at its fullest step if run plainly and as it runs, and what that costs.

    Of a firmware that streams nothing a line that says so.
    """
    rows = [(one.layer, one.direction, ", ".join(one.modes), *one[3:]) for one in trades(layout.timeline)]
    header = ["streamed from", "pass", "mode", "plain B", "B", "extra multiply-adds", "extra instructions, about"]
    if layout.accounting.streamed and not rows:
        return [
            "no block is streamed: none of convolution, depthwise and pointwise, with ReLU or ReLU6, would save memory"
        ]
    return [text_table(header, rows, n_left=3)] if rows else []


def head_room_text(budget_bytes: int, worst_bytes: int) -> str:
    """How much of a budget the worst case leaves."""
    return f"head-room in the worst case: {format_bytes(budget_bytes - worst_bytes)} of {format_bytes(budget_bytes)}"


def _bytes_table(title: str, rows: list[tuple[str, int, str]], about: str) -> str:
    return text_table(
        [title, about, "B", "KiB"], [(name, text, n, f"{kib(n):,.1f}") for name, n, text in rows], n_left=2
    )
