"""What each layer adds to the memory of a step, by kind."""

from kilotune.graph.backward import StepGraph, whole_classifier
from kilotune.graph.node import Graph
from kilotune.memory.accounting import OPTIMIZER_SLOTS, Accounting
from kilotune.memory.cost import chosen_cost
from kilotune.update_plan import UpdatePlan

# How ``graph.backward`` calls what is kept -> how it is shown.
_KEPT = {
    "channels": "kept channels",
    "compressed": "kept channels",
    "value": "kept whole",
    "mask": "masks",
    "argmax": "masks",
}
KINDS = ("kept channels", "kept whole", "masks", "weights", "weight gradients", "optimiser state")
SAVED_KINDS = KINDS[:3]

Breakdown = dict[str, dict[str, int]]


def breakdown(graph: Graph, plan: UpdatePlan, accounting: Accounting) -> Breakdown:
    """Bytes by layer, in forward order, and kind of ``KINDS``; layers that add nothing are left out.

    The first three kinds add up to the ledger's ``by_layer`` without the loss, the others to what stays in RAM for what
    is trained (overlay, biases and classifier of ``by_kind``).
    """
    layers: Breakdown = {}
    for kept in StepGraph.of(graph, plan).kept:
        if kept.counted:
            _add(layers, kept.layer, _KEPT[kept.form], kept.nbytes(accounting.batch))
    for layer, elements in _trained(graph, plan).items():
        nbytes = elements * accounting.element_bytes
        _add(layers, layer, "weights", nbytes)
        _add(layers, layer, "weight gradients", nbytes * accounting.accumulate)
        _add(layers, layer, "optimiser state", nbytes * OPTIMIZER_SLOTS[accounting.optimizer])
    place = {node.layer: index for index, node in enumerate(graph.nodes)}
    return dict(sorted(layers.items(), key=lambda item: place.get(item[0], -1)))


def _add(layers: Breakdown, layer: str, kind: str, nbytes: int) -> None:
    kinds = layers.setdefault(layer, dict.fromkeys(KINDS, 0))
    kinds[kind] += nbytes


def _trained(graph: Graph, plan: UpdatePlan) -> dict[str, int]:
    """Trained numbers by layer: slices, biases, the classifier."""
    trained = {one.layer: chosen_cost(graph, one, {}).weights for one in plan.channels}
    for layer in plan.biases:
        trained[layer] = trained.get(layer, 0) + graph.layer[layer].out_channels
    if whole_classifier(graph, plan) and graph.classifier:
        head = graph.layer[graph.classifier]
        trained[head.name] = head.weight_elements + head.has_bias * head.out_channels
    return trained
