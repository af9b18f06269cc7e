"""The combination of policy, trained biases and kept precision that captures most of a measured gradient inside a budget."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kilotune.errors import BudgetError, KilotuneError
from kilotune.graph.keeping import reads_image
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.ops.prepare import prepare
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.policies.ranking import Ranking
from kilotune.update_plan import Budget, ChannelSet, Keep, UpdatePlan

# So many draws are averaged; each is told the measured norms of its channels, as training would tell it.
N_DRAWS = 12


@dataclass(frozen=True)
class Candidate:
    """A combination: a policy with its options, and how trained layers keep their inputs (None: exactly)."""

    policy: str
    options: tuple[tuple[str, int], ...] = ()
    keep: str | None = None

    @property
    def flags(self) -> str:
        """The combination as arguments of the command line."""
        keep = "" if self.keep is None else f" --keep {self.keep}"
        return f"--policy {self.policy}" + "".join(f" --option {name}={value}" for name, value in self.options) + keep


KEEPS = (None, "int8", "int4")
# Biases cost no activation; 21 last layers are what the largest Sparse Update schemes train.
CANDIDATES = (
    *(Candidate(policy, (), keep) for policy in ("medyate", "trady", "dgsu", "last") for keep in KEEPS),
    *(Candidate(policy, (("biases", 21),), keep) for policy in ("medyate", "trady") for keep in KEEPS),
    Candidate("bias"),
    Candidate("classifier"),
)


@dataclass(frozen=True)
class Gradient:
    """One dense gradient: squared norm by layer and input channel (c,), by bias, and what each way of keeping leaves of it.

    fidelity: by way and layer the squared cosine between the exact gradient and the one from the kept input; of the
    first-order fall of the loss at a step of given length this part remains.
    """

    weights: dict[str, np.ndarray]
    biases: dict[str, float]
    fidelity: dict[str | None, dict[str, float]]

    @property
    def total(self) -> float:
        """Squared norm of everything but the classifier."""
        return float(sum(energy.sum() for energy in self.weights.values()) + sum(self.biases.values()))


@dataclass(frozen=True)
class Choice:
    """A candidate under the budget: what it trains on average, and the share of the squared gradient that this captures.

    selector: at the size that fits, nothing drawn yet; None where nothing fits, for the reason ``why``.
    """

    candidate: Candidate
    selector: Selector | None
    worst_bytes: int
    n_weights: int
    n_biases: int
    fidelity: float
    share: float
    why: str


def measure(model: nn.Module, graph: Graph, x: Tensor, y: Tensor, keeps: Iterable[str | None] = KEEPS) -> Gradient:
    """The gradient of one batch ``x`` (n, ...), ``y`` (n,), exact and with inputs kept in other ways; the model stays."""
    exact = _gradients(model, graph, x, y, None)
    weights = {layer.name: exact[f"{layer.name}.weight"].square().flatten(1).sum(1) for layer in graph.body}
    biases = {name: float(exact[f"{name}.bias"].square().sum()) for name in _with_bias(graph)}
    fidelity: dict[str | None, dict[str, float]] = {None: dict.fromkeys(weights, 1.0)}
    for keep in keeps:
        if keep is not None:
            kept = _gradients(model, graph, x, y, keep)
            fidelity[keep] = {
                name: _squared_cosine(exact[f"{name}.weight"], kept[f"{name}.weight"]) for name in weights
            }
    return Gradient({name: energy.numpy() for name, energy in weights.items()}, biases, fidelity)


def _with_bias(graph: Graph) -> tuple[str, ...]:
    return tuple(layer.name for layer in graph.body if layer.has_bias)


def _gradients(model: nn.Module, graph: Graph, x: Tensor, y: Tensor, keep: str | None) -> dict[str, Tensor]:
    """Of all weights, channel-major, and biases, by name; in float64, batch norm and dropout as in evaluation."""
    sets = tuple(ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in graph.body)
    kept = [] if keep is None else [layer.name for layer in graph.body if not reads_image(graph, layer)]
    keeps = tuple(Keep(name, keep) for name in kept if keep is not None)
    step = prepare(deepcopy(model), x, UpdatePlan(sets, _with_bias(graph), keeps=keeps), graph).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of stochastic rounding
        cross_entropy(step(x), y).backward()
    return {name: p.grad.double() for name, p in step.live.items() if p.grad is not None}


def _squared_cosine(a: Tensor, b: Tensor) -> float:
    norms = float(a.square().sum() * b.square().sum())
    return float((a * b).sum()) ** 2 / norms if norms else 0.0


def choose(
    graph: Graph,
    gradient: Gradient,
    budget: Budget,
    seed: int = 0,
    accounting: Accounting | None = None,
    ranking: Ranking | None = None,
    candidates: Iterable[Candidate] = CANDIDATES,
) -> list[Choice]:
    """Every candidate at the largest size of which all draws fit ``budget``, the best first.

    Best is the largest share of the squared gradient norm: what the loss falls by to first order, if each candidate may
    step as far. Raises BudgetError if no candidate fits.
    """
    choices = [_try(one, graph, gradient, budget, seed, accounting, ranking) for one in candidates]
    ordered = sorted(choices, key=lambda choice: (choice.selector is None, -choice.share))
    if ordered[0].selector is None:
        raise BudgetError(f"no combination fits {budget}: {ordered[0].why}")
    return ordered


def _try(
    candidate: Candidate,
    graph: Graph,
    gradient: Gradient,
    budget: Budget,
    seed: int,
    accounting: Accounting | None,
    ranking: Ranking | None,
) -> Choice:
    policy = make(candidate.policy, **dict(candidate.options))
    try:
        selector = Selector.fit(graph, policy, budget, seed, accounting, ranking, candidate.keep)
    except KilotuneError as error:
        return Choice(candidate, None, 0, 0, 0, 0.0, 0.0, _reason(error))
    return _judge(candidate, selector, gradient, graph)


def _reason(error: KilotuneError) -> str:
    """The part of the message that differs between candidates."""
    needs = str(error).partition(" needs ")[2].partition(" (")[0]
    return f"needs {needs}" if isinstance(error, BudgetError) and needs else str(error)


def _judge(candidate: Candidate, selector: Selector, gradient: Gradient, graph: Graph) -> Choice:
    """Average over draws that learn the measured norms of what they drew."""
    trying, fidelity = deepcopy(selector), gradient.fidelity[candidate.keep]
    exact, faithful, n_weights = 0.0, 0.0, 0
    for _ in range(N_DRAWS):
        plan = trying.draw()
        energies = {one.layer: gradient.weights[one.layer][list(one.indices)] for one in plan.channels}
        exact += sum(float(energy.sum()) for energy in energies.values())
        faithful += sum(fidelity[name] * float(energy.sum()) for name, energy in energies.items())
        n_weights += sum(len(one.indices) * graph.layer[one.layer].channel_weight_elements for one in plan.channels)
        trying.observe(plan, {name: np.sqrt(energy) for name, energy in energies.items()})
    biases = sum(gradient.biases[name] for name in plan.biases)
    return Choice(
        candidate,
        selector,
        selector.worst_case.total_bytes,
        n_weights // N_DRAWS,
        sum(graph.layer[name].out_channels for name in plan.biases),
        faithful / exact if exact else 1.0,
        (faithful / N_DRAWS + biases) / (gradient.total or 1.0),
        f"weights {faithful / N_DRAWS / (gradient.total or 1.0):.2%}, biases {biases / (gradient.total or 1.0):.2%}",
    )
