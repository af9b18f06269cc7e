"""Which layers keep their input compressed: what a plan's ``keeps`` mean on a network."""

from collections.abc import Mapping

from kilotune.errors import PlanError
from kilotune.graph.node import Graph, Input, Layer, Reshape
from kilotune.graph.way import Modes, Way
from kilotune.graph.ways import parse_way
from kilotune.update_plan import Keep, UpdatePlan


def keep_all(graph: Graph, how: str | Mapping[str, str] | None) -> tuple[Keep, ...]:
    """``how`` (a way, or ways by layer; None: exactly) for every layer that policies choose from, in forward order.

    A way for all leaves out the layers that read the image. Raises PlanError where a way does not exist or does not fit.
    """
    if how is None:
        return ()
    if isinstance(how, str):
        how = {layer.name: how for layer in graph.body if not reads_image(graph, layer)}
    for name in how:
        graph.find_layer(name)
    keeps = tuple(Keep(layer.name, str(parse_way(how[layer.name]))) for layer in graph.layers if layer.name in how)
    for keep in keeps:
        check_keep(graph, keep)
    return keeps


def check_keep(graph: Graph, keep: Keep) -> None:
    """Raise PlanError unless the layer is there, has an input of its own, and can keep it in this way."""
    layer = graph.find_layer(keep.layer)
    if reads_image(graph, layer):
        raise PlanError(f"{keep.layer} reads the image, which is in memory anyway; do not keep it as {keep.way}")
    parse_way(keep.way).check(keep.layer, layer.kind, modes_of(graph, layer))


def check_keeps(graph: Graph, plan: UpdatePlan) -> None:
    """Raise PlanError unless every layer that keeps its input compressed is trained, and can keep it so."""
    trained = {*plan.pool, *(chosen.layer for chosen in plan.channels), graph.classifier if plan.classifier else None}
    for keep in plan.keeps:
        check_keep(graph, keep)
        if keep.layer not in trained:
            raise PlanError(
                f"the plan keeps the input of {keep.layer} as {keep.way}, but does not train its weights; leave it out"
            )


def ways_of(keeps: tuple[Keep, ...]) -> dict[str, Way]:
    """The ways by layer."""
    return {keep.layer: parse_way(keep.way) for keep in keeps}


def modes_of(graph: Graph, layer: Layer) -> Modes:
    """The axes of the input of ``layer``: (n, c, h, w) of a convolution, (n, ..., c) of a linear layer."""
    info = graph.node[graph.node[layer.node].inputs[0]].output
    channel_axis = len(info.shape) - 1 if layer.kind == "linear" else 1
    return Modes(info.shape, info.batch_axis or 0, channel_axis, layer.output_hw)


def reads_image(graph: Graph, layer: Layer) -> bool:
    """Whether the input of ``layer`` is the input of the network, which nobody has to keep."""
    source = graph.node[graph.node[layer.node].inputs[0]]
    while isinstance(source.op, Reshape):
        source = graph.node[source.inputs[0]]
    return isinstance(source.op, Input)
