"""Exact simplifications of a network: padding into convolutions, frozen batch norm into the layer before it, each frozen
tensor once."""

from collections import Counter
from dataclasses import replace

from kilotune.graph.node import BatchNorm, Constant, Conv2d, Linear, Node, Op, Pad, Parameter


def fold(nodes: list[Node], output: str) -> tuple[Node, ...]:
    """The same function with fewer nodes; the input stays first and names of surviving values do not change."""
    nodes = _merge_frozen(nodes)
    for rule in (_fold_padding, _fold_norm):
        nodes = _apply(rule, nodes, output)
    return _without_dead(nodes, output)


def _apply(rule, nodes: list[Node], output: str) -> list[Node]:
    """Merge producer and consumer wherever ``rule`` gives a node for both; the merged node takes the consumer's name."""
    uses = Counter(name for node in nodes for name in node.inputs)
    uses[output] += 1
    kept: dict[str, Node] = {}
    for node in nodes:
        producer = kept.get(node.inputs[0]) if node.inputs else None
        merged = rule(producer, node) if producer is not None and uses[producer.name] == 1 else None
        if merged is not None and producer is not None:
            del kept[producer.name]
        kept[node.name] = merged or node
    return list(kept.values())


def _fold_padding(pad: Node, conv: Node) -> Node | None:
    if not (isinstance(pad.op, Pad) and isinstance(conv.op, Conv2d)) or pad.op.behind:
        return None
    top, bottom, left, right = (a + b for a, b in zip(pad.op.padding, conv.op.padding, strict=True))
    return replace(conv, op=replace(conv.op, padding=(top, bottom, left, right)), inputs=pad.inputs)


def _fold_norm(layer: Node, norm: Node) -> Node | None:
    """Batch norm normalises axis 1, so a linear layer takes it only where axis 1 is its output feature."""
    if not isinstance(norm.op, BatchNorm) or not isinstance(layer.op, Conv2d | Linear) or layer.op.norm is not None:
        return None
    if isinstance(layer.op, Linear) and len(layer.output.shape) != 2:
        return None
    return replace(layer, name=norm.name, op=replace(layer.op, norm=norm.op.norm))


def _merge_frozen(nodes: list[Node]) -> list[Node]:
    """Parameters and constants that several operations read become one node each."""
    first: dict[tuple[Op, tuple[int, ...]], str] = {}
    kept, name_of = [], {node.name: node.name for node in nodes}
    for node in nodes:
        if isinstance(node.op, Parameter | Constant):
            name_of[node.name] = first.setdefault((node.op, node.output.shape), node.name)
        if name_of[node.name] == node.name:
            kept.append(replace(node, inputs=tuple(name_of[name] for name in node.inputs)))
    return kept


def _without_dead(nodes: list[Node], output: str) -> tuple[Node, ...]:
    needed = {output}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes if node.name in needed or node is nodes[0])
