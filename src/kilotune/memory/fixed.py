"""What is trained in every draw, biases, the classifier, layers as whole as it: the bytes that stay, and those that pass."""

from kilotune.graph.backward import BackwardStep, StepGraph
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting


def fixed_elements(graph: Graph, step: BackwardStep) -> int:
    """Numbers trained at a step in every draw: a bias, a whole weight."""
    if not step.bias and step.channels is None:
        return 0
    layer = graph.layer[step.node.layer]
    return step.bias * layer.out_channels + (step.channels is not None) * layer.weight_elements


def resident_kinds(graph: Graph, step_graph: StepGraph, accounting: Accounting) -> dict[str, int]:
    """Bytes that stay in RAM in every draw: biases, whole layers, the classifier and the way it keeps its input, the program's
    own."""
    elements = {"bias": 0, "classifier": 0}
    for step in step_graph.steps:
        kind = "bias" if step.channels is None else "classifier" if step.node.layer == graph.classifier else "whole"
        elements[kind] = elements.get(kind, 0) + fixed_elements(graph, step)
    kinds = {"program": accounting.program_bytes}
    for kind, number in elements.items():
        kinds |= trained_kinds(kind, number, accounting)
    return kinds | {"keeping": _classifier_state(step_graph, accounting)}


def _classifier_state(step_graph: StepGraph, accounting: Accounting) -> int:
    """What the way of keeping the classifier's input holds from one step to the next."""
    kept = (one.compressed for one in step_graph.kept if one.compressed)
    elements = (one.way.state(one.modes, accounting.batch, one.channels) for one in kept)
    return sum(elements) * accounting.element_bytes


def trained_kinds(kind: str, elements: int, accounting: Accounting) -> dict[str, int]:
    """Bytes of ``elements`` trained numbers of a kind: their changed values, summed gradients and the optimiser's state."""
    nbytes = elements * accounting.element_bytes
    kinds = {kind: nbytes * accounting.updates, f"{kind}_gradient": nbytes * accounting.accumulate}
    return kinds | {f"{kind}_optimizer": nbytes * accounting.optimizer_copies}
