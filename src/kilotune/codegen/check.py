"""What cannot become C, everything at once."""

from kilotune.codegen.forward import problem
from kilotune.codegen.keeping import check_ways
from kilotune.codegen.values import Values
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.update_plan import UpdatePlan


def check(values: Values, plan: UpdatePlan) -> None:
    """Raise ExportError, listing every node that has no kernel, or everything of the plan that a device cannot do."""
    graph = values.graph
    found = [(node, problem(values, node)) for node in graph.nodes if node.name not in graph.constants]
    problems = [
        f"  {node.op.kind} -> {'x'.join(map(str, values.shape(node.name)))} in {node.layer or node.name}: {text}"
        for node, text in found
        if text is not None
    ]
    if problems:
        listing = "\n".join(problems)
        raise ExportError(f"{graph.model} has {len(problems)} operations that cannot become C:\n{listing}")
    check_ways(values)
    streamed = values.region.layout.accounting.streamed
    positions = [
        node.layer
        for node in graph.nodes
        if isinstance(node.op, ops.Linear) and values.elements(node.name) != node.op.weight_shape[0]
    ]
    if streamed and positions:
        raise ExportError(
            f"{', '.join(positions)}: linear layers over several positions cannot be trained channel by channel; "
            "export with --plain"
        )
    if streamed and values.region.neurons:
        names = ", ".join(sorted(values.region.neurons))
        raise ExportError(f"{names}: output neurons cannot be trained channel by channel; export with --plain")
