"""ASI's ranks (arXiv 2505.05086, section 3.3): for each layer the energy whose loss of gradient is worth its bytes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kilotune.errors import BudgetError
from kilotune.graph.keeping import modes_of
from kilotune.graph.low_rank import stored
from kilotune.graph.node import Graph
from kilotune.ops.prepare import prepare
from kilotune.units import format_bytes
from kilotune.update_plan import Keep, UpdatePlan

ENERGIES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CELLS = 2048
"""Parts of the budget in which bytes are counted by the search, rounded up."""

Ranks = tuple[int, ...]


def search_ranks(
    model: nn.Module, graph: Graph, layers: Sequence[str], x: Tensor, y: Tensor, nbytes: int
) -> dict[str, str]:
    """Ways ``asi:...`` by layer with the smallest sum of perplexities, cores and factors within ``nbytes`` at this batch.

    Perplexity is the norm of what a layer's weight gradient loses. Raises BudgetError if the smallest ranks do not fit.
    """
    exact, _ = _gradients(model, graph, layers, x, y, None)
    tried = [_gradients(model, graph, layers, x, y, f"hosvd:{energy}:1") for energy in ENERGIES]
    loss = np.array([[float((grads[name] - exact[name]).norm()) for grads, _ in tried] for name in layers])
    ranks = [[found[name] for _, found in tried] for name in layers]
    sizes = [modes_of(graph, graph.find_layer(name)).at(len(x)) for name in layers]
    cost = np.array([[4 * stored(size, one) for one in row] for size, row in zip(sizes, ranks, strict=True)])
    chosen = cheapest_choice(loss, cost, nbytes)
    if chosen is None:
        least = format_bytes(int(cost.min(1).sum()))
        raise BudgetError(
            f"the inputs of {len(layers)} layer(s) at batch {len(x)} need at least {least} at the lowest energy, the budget "
            f"is {format_bytes(nbytes)}; raise it, or take fewer layers"
        )
    return {name: f"asi:{'x'.join(map(str, row[pick]))}" for name, row, pick in zip(layers, ranks, chosen, strict=True)}


def cheapest_choice(loss: np.ndarray, cost: np.ndarray, budget: int) -> list[int] | None:
    """One column of each row with the smallest sum of ``loss`` whose sum of ``cost`` fits ``budget``; None if none does.

    By dynamic programming over parts of the budget, into which costs are rounded up: the choice fits for certain.
    """
    cells = np.ceil(cost * CELLS / budget).astype(np.int64)
    best = np.zeros(CELLS + 1)
    picks = []
    for losses, sizes in zip(loss, cells, strict=True):
        options = np.full((len(losses), CELLS + 1), np.inf)
        for option, (lost, size) in enumerate(zip(losses, sizes, strict=True)):
            if size <= CELLS:
                options[option, size:] = best[: CELLS + 1 - size] + lost
        picks.append(options.argmin(0))
        best = options.min(0)
    if not np.isfinite(best[-1]):
        return None
    chosen, left = [], CELLS
    for pick, sizes in zip(reversed(picks), cells[::-1], strict=True):
        chosen.append(int(pick[left]))
        left -= int(sizes[chosen[-1]])
    return chosen[::-1]


def _gradients(
    model: nn.Module, graph: Graph, layers: Sequence[str], x: Tensor, y: Tensor, way: str | None
) -> tuple[dict[str, Tensor], dict[str, Ranks]]:
    """Weight gradients by layer with inputs kept in ``way``, and the ranks that it found."""
    sets = tuple(layer.whole() for layer in graph.body if layer.name in layers)
    keeps = tuple(Keep(chosen.layer, way) for chosen in sets) if way else ()
    step = prepare(model, x, UpdatePlan(sets, classifier=False, keeps=keeps), graph).eval()
    cross_entropy(step(x), y).backward()
    gradients = {name: step.live[f"{name}.weight"].grad for name in layers}
    found: dict[str, Ranks] = {}
    if way:
        with torch.no_grad():
            _, parts, _ = step.program.forward_keeping(x)
        for kept, part in zip(step.program.kept, parts, strict=True):
            if kept.form == "compressed":
                found.setdefault(kept.layer, tuple(part.shape))
    step.restore()
    return {name: gradient for name, gradient in gradients.items() if gradient is not None}, found
