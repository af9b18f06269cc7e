"""One training step in PyTorch with every value and every gradient, for comparison."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from kilotune.graph import node as ops
from kilotune.ops.forward import FORWARD, Weights
from kilotune.ops.instructions import compressed_places
from kilotune.ops.place import Place
from kilotune.ops.prepare import Step
from kilotune.ops.ways import WAYS


def reference_step(step: Step, image: torch.Tensor, label: torch.Tensor) -> tuple[dict[str, torch.Tensor], float]:
    """Every value of the step, with its gradient, by autograd over the same operations."""
    step.program.refresh()
    places = compressed_places(step.program.step_graph, step._live_weights, step.memories)
    values: dict[str, torch.Tensor] = {}
    for node in step.graph.nodes:
        if isinstance(node.op, ops.Input):
            values[node.name] = image.clone().requires_grad_()
            continue
        own = step._weights[node.name]
        if node.name in step.graph.constants:
            assert own.weight is not None
            values[node.name] = own.weight
            continue
        frozen = Weights(own.weight, own.bias, False, own.layout, False)
        inputs = [values[name] for name in node.inputs]
        values[node.name] = _run(node, frozen, inputs, places.get(node.name))
        if values[node.name].requires_grad:
            values[node.name].retain_grad()
    loss = F.cross_entropy(values[step.graph.output], label)
    loss.backward()
    return values, loss.item()


def _run(node: ops.Node, weights: Weights, inputs: list[torch.Tensor], place: Place | None) -> torch.Tensor:
    """A node, differentiated by autograd or, where its way of keeping has a gradient of its own for the input, by that."""
    own = None if place is None else WAYS[place.way.name].input_grad
    if place is None or own is None:
        return FORWARD[node.op.kind](node, weights, inputs, 1)
    shape = tuple(inputs[0].shape)
    return _OwnGradient.apply(
        inputs[0],
        lambda x: FORWARD[node.op.kind](node, weights, [x], 1),
        lambda dy: own(place, weights.weight, dy, shape),
    )


class _OwnGradient(torch.autograd.Function):
    """``run(x)``, whose gradient is ``back`` of the one that arrives."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, run: Callable, back: Callable) -> torch.Tensor:
        ctx.back = back
        return run(x)

    @staticmethod
    def backward(ctx, dy: torch.Tensor):
        return ctx.back(dy), None, None
