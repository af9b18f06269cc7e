"""The combination of policy, layers, trained biases and kept precision that captures most of a measured gradient in a budget."""

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kilotune.errors import BudgetError, KilotuneError
from kilotune.graph.keeping import reads_image
from kilotune.graph.node import Graph
from kilotune.graph.ways import parse_way
from kilotune.memory.accounting import Accounting
from kilotune.memory.cost import unit_cost
from kilotune.memory.timelines import Timelines
from kilotune.ops.prepare import prepare
from kilotune.policies import POLICIES, make
from kilotune.policies.advice import needs
from kilotune.policies.base import Task
from kilotune.policies.fit import Selector
from kilotune.policies.fitting import Fitting
from kilotune.policies.ranking import Ranking
from kilotune.update_plan import Budget, Keep, UpdatePlan

# So many draws are averaged; each is told the measured norms of its channels, as training would tell it.
N_DRAWS = 12
KEEPS = (None, "int8", "int4", "prune:0.1", "hosvd:0.7:0.1", "hosvd:0.8:0.25", "asi:2", "asi:4")
# Biases cost no activation; 21 last layers are what the largest Sparse Update schemes train.
BIASES = (3, 8, 21)
# Layers left out in front, in parts of all layers.
FRONTS = (1 / 4, 1 / 2, 3 / 4)
DRAWING, OTHERS = ("medyate", "trady", "random", "dgsu"), ("bias", "last", "classifier")
# Part of a layer's channels by which what it is charged once is shared, where ways are compared.
EXPECTED_SHARE = 0.2

Ways = str | tuple[tuple[str, str], ...] | None
"""One way for all layers, or ways by layer; None: exactly."""


@dataclass(frozen=True)
class Candidate:
    """A combination: a policy with its options, and how trained layers keep their inputs."""

    policy: str
    options: tuple[tuple[str, int], ...] = ()
    keep: Ways = None

    @property
    def flags(self) -> str:
        """The combination as arguments of the command line."""
        return self._flags(
            ",".join("=".join(pair) for pair in self.keep) if isinstance(self.keep, tuple) else self.keep
        )

    @property
    def label(self) -> str:
        """The same in short: of ways by layer their number."""
        if not isinstance(self.keep, tuple):
            return self.flags
        ways = Counter(way for _, way in self.keep)
        return self._flags("by layer: " + ", ".join(f"{n} {way}" for way, n in ways.items()))

    def _flags(self, keep: str | None) -> str:
        options = "".join(f" --option {name}={value}" for name, value in self.options)
        return f"--policy {self.policy}{options}" + ("" if keep is None else f" --keep {keep}")

    def takes(self, option: str) -> bool:
        """Whether the policy has an option of this name."""
        return option in {one.name for one in fields(POLICIES[self.policy])}  # type: ignore[arg-type]

    def but(self, **options: int) -> "Candidate":
        """The same with other options."""
        return replace(self, options=tuple((dict(self.options) | options).items()))


@dataclass(frozen=True)
class Gradient:
    """One dense gradient: squared norm by layer and input channel (c,), by bias, and what each way of keeping leaves of it.

    fidelity: by way and layer the squared cosine between the exact gradient and the one from the kept input; of the
    first-order fall of the loss at a step of given length this part remains.
    """

    weights: dict[str, np.ndarray]
    biases: dict[str, float]
    fidelity: dict[str | None, dict[str, float]]

    def left_by(self, keep: Ways) -> dict[str, float]:
        """Fidelity by layer, kept in one way or in ways by layer."""
        if isinstance(keep, tuple):
            return self.fidelity[None] | {name: self.fidelity[way][name] for name, way in keep}
        return self.fidelity[keep]

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


def measure(
    model: nn.Module, graph: Graph, x: Tensor, y: Tensor, keeps: Iterable[str | None] = KEEPS, batch: int = 1
) -> Gradient:
    """The gradient of ``x`` (n, ...), ``y`` (n,), exact and, ``batch`` at once, with inputs kept in each of ``keeps``."""
    exact = _gradients(model, graph, x, y, None, len(x))
    weights = {layer.name: exact[f"{layer.name}.weight"].square().flatten(1).sum(1) for layer in graph.body}
    biases = {name: float(exact[f"{name}.bias"].square().sum()) for name in _with_bias(graph)}
    fidelity: dict[str | None, dict[str, float]] = {None: dict.fromkeys(weights, 1.0)}
    for keep in keeps:
        if keep is not None:
            kept = _gradients(model, graph, x, y, keep, batch)
            fidelity[keep] = {
                name: _squared_cosine(exact[f"{name}.weight"], kept[f"{name}.weight"]) for name in weights
            }
    return Gradient({name: energy.numpy() for name, energy in weights.items()}, biases, fidelity)


def _with_bias(graph: Graph) -> tuple[str, ...]:
    return tuple(layer.name for layer in graph.body if layer.has_bias)


def _gradients(model: nn.Module, graph: Graph, x: Tensor, y: Tensor, keep: str | None, batch: int) -> dict[str, Tensor]:
    """Of all weights, channel-major, and biases, by name; in float64, batch norm and dropout as in evaluation."""
    sets = tuple(layer.whole() for layer in graph.body)
    kept = [] if keep is None else [layer.name for layer in graph.body if not reads_image(graph, layer)]
    keeps = tuple(Keep(name, keep) for name in kept if keep is not None)
    step = prepare(deepcopy(model), x, UpdatePlan(sets, _with_bias(graph), keeps=keeps), graph).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of stochastic rounding
        for some, labels in zip(x.split(batch), y.split(batch), strict=True):
            (cross_entropy(step(some), labels, reduction="sum") / len(x)).backward()
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
    candidates: Iterable[Candidate] | None = None,
) -> list[Choice]:
    """Every candidate (None: of ``_search``) at the largest size of which all draws fit ``budget``, the best first.

    Best is the largest share of the squared gradient norm: what the loss falls by to first order, if each candidate may
    step as far. Raises BudgetError if no candidate fits.
    """
    trial = _Trial(graph, gradient, budget, seed, accounting or Accounting(), ranking)
    for candidate in _search(trial) if candidates is None else candidates:
        trial.run(candidate)
    ordered = trial.ordered
    if ordered[0].selector is None:
        raise BudgetError(f"no combination fits {budget}: {ordered[0].why}")
    return ordered


@dataclass
class _Trial:
    """Candidates tried so far. Those that keep inputs in the same ways share the layouts of their steps."""

    graph: Graph
    gradient: Gradient
    budget: Budget
    seed: int
    accounting: Accounting
    ranking: Ranking | None
    choices: dict[Candidate, Choice] = field(default_factory=dict)
    _fittings: dict[Ways, Fitting] = field(default_factory=dict)

    @cached_property
    def _timelines(self) -> Timelines:
        return Timelines(self.graph, self.accounting)

    @property
    def ordered(self) -> list[Choice]:
        """The best first, what does not fit last."""
        return sorted(self.choices.values(), key=lambda choice: (choice.selector is None, -choice.share))

    def best(self) -> Candidate:
        """The best of the policies that draw."""
        return next(choice.candidate for choice in self.ordered if choice.candidate.policy in DRAWING)

    def run(self, candidate: Candidate) -> None:
        """Try a candidate unless it was."""
        if candidate not in self.choices:
            self.choices[candidate] = self._try(candidate)

    def _try(self, candidate: Candidate) -> Choice:
        policy = make(candidate.policy, **dict(candidate.options))
        try:
            if candidate.keep not in self._fittings:
                keep = dict(candidate.keep) if isinstance(candidate.keep, tuple) else candidate.keep
                task = Task.of(self.graph, self.ranking, keep).counted_in(self.budget.ledger)
                self._fittings[candidate.keep] = Fitting(task, policy, self.accounting, self._timelines)
            fitting = replace(self._fittings[candidate.keep], policy=policy).without_front(self.budget)
            selector = Selector.largest(fitting, self.budget, self.seed)
            why = "" if selector else needs(fitting, self.budget)
        except KilotuneError as error:
            selector, why = None, str(error)
        return Choice(candidate, None, 0, 0, 0, 0.0, 0.0, why) if selector is None else self._judge(candidate, selector)

    def _judge(self, candidate: Candidate, selector: Selector) -> Choice:
        """Average over draws that learn the measured norms of what they drew."""
        trying, gradient, fidelity = selector.fork(), self.gradient, self.gradient.left_by(candidate.keep)
        exact, faithful, n_weights = 0.0, 0.0, 0
        for _ in range(N_DRAWS):
            plan = trying.draw()
            energies = {one.layer: gradient.weights[one.layer][list(one.indices)] for one in plan.channels}
            exact += sum(float(energy.sum()) for energy in energies.values())
            faithful += sum(fidelity[name] * float(energy.sum()) for name, energy in energies.items())
            layers = self.graph.layer
            n_weights += sum(len(one.indices) * layers[one.layer].channel_weight_elements for one in plan.channels)
            trying.observe(plan, {name: np.sqrt(energy) for name, energy in energies.items()})
        biases, total = sum(gradient.biases[name] for name in plan.biases), gradient.total or 1.0
        return Choice(
            candidate,
            selector,
            selector.worst_case.total_bytes,
            n_weights // N_DRAWS,
            sum(self.graph.layer[name].out_channels for name in plan.biases),
            faithful / exact if exact else 1.0,
            (faithful / N_DRAWS + biases) / total,
            f"weights {faithful / N_DRAWS / total:.2%}, biases {biases / total:.2%}",
        )


def _search(trial: _Trial) -> Iterator[Candidate]:
    """One part of the combination after the other, each time on top of the best so far: ways, policies, biases, fronts, ways."""
    keeps = [*trial.gradient.fidelity, _by_layer(trial)]
    start = Candidate("medyate")
    yield from (replace(start, keep=keep) for keep in keeps)
    best = trial.best()
    yield from (replace(best, policy=policy) for policy in DRAWING)
    yield from (Candidate(policy) for policy in OTHERS)
    best = trial.best()
    yield from (best.but(biases=n) for n in BIASES)
    best = trial.best()
    n_layers = len(trial.graph.body)
    yield from (best.but(front=round(part * n_layers)) for part in FRONTS if best.takes("front"))
    best = trial.best()
    yield from (replace(best, keep=keep) for keep in keeps)


def _by_layer(trial: _Trial) -> Ways:
    """Of each layer the way that leaves most of the gradient for an element of memory; layers best kept exactly are left out."""
    copies, fidelity = trial.accounting.resident_copies, trial.gradient.fidelity
    found = []
    for layer in trial.graph.body:
        worth = {}
        for way in fidelity:
            cost = unit_cost(trial.graph, layer, "in", None if way is None else parse_way(way))
            once = (cost.kept.once + cost.state.once) / (EXPECTED_SHARE * layer.in_channels)
            worth[way] = fidelity[way][layer.name] / (cost.weight * copies + cost.kept.unit + cost.state.unit + once)
        best = max(worth, key=lambda way: worth[way])
        if best is not None and not reads_image(trial.graph, layer):
            found.append((layer.name, best))
    return tuple(found) or None
