"""What a policy is: a frozen value that turns a budget into channels, with its memory passed in and out."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from kilotune.errors import RankingError, TrainingError
from kilotune.graph.keeping import keep_all
from kilotune.graph.node import Graph
from kilotune.memory.cost import ChannelTable
from kilotune.memory.knapsack import KnapsackOnce
from kilotune.policies.ranking import Metric, Ranking, find_ranking, structural
from kilotune.rng import Pcg32
from kilotune.update_plan import Axis, ChannelSet, Keep, Ledger

Redraw = Literal["never", "epoch", "step"]

Observation = Literal["nothing", "norms", "survey", "fisher", "outputs", "inputs"]
"""What a policy is told: nothing; gradient norms of the channels just trained; before a draw, those of all channels, from a
pass over the training data with the gradient of every weight (oracles; the pass is outside the budget and shown); how similar
each layer's outputs (of neurons) or inputs (of channels) are to what they were at the draw before."""

PASSES: frozenset[Observation] = frozenset({"survey", "fisher"})
"""What is only known after a pass over the training data of its own."""


@dataclass(frozen=True)
class Task:
    """What a policy chooses from: the network, the cost of its channels, and a layer ranking where one is needed.

    front: first row of the table that a policy with ``fronts`` may train; the rows before it are left out.
    keeps: how layers keep their inputs, should they be trained; costs are under these. ledger: what costs are counted in.
    """

    graph: Graph
    table: ChannelTable
    ranking: Ranking | None = None
    front: int = 0
    keeps: tuple[Keep, ...] = ()
    ledger: Ledger = "total"
    _costs: dict[Axis, ChannelTable] = field(default_factory=dict, repr=False, compare=False)
    _knapsacks: dict[tuple[Axis, Ledger], KnapsackOnce] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, graph: Graph, ranking: Ranking | None = None, keep: str | Mapping[str, str] | None = None) -> "Task":
        """The task of a network: with ``ranking``, else the committed ranking of this network, else one from shapes.

        keep: as ``graph.keeping.keep_all`` takes it. Raises RankingError if ``ranking`` belongs to another network, and
        PlanError if inputs cannot be kept as asked.
        """
        if ranking is not None:
            ranking.check(graph)
        keeps = keep_all(graph, keep)
        table = ChannelTable.of(graph, keeps=keeps)
        return cls(graph, table, ranking or find_ranking(graph) or structural(graph), keeps=keeps)

    def counted_in(self, ledger: Ledger) -> "Task":
        """The same with costs as ``ledger`` counts them: under ``parameters`` inputs cost nothing."""
        return replace(self, table=self.table.weights_only(), ledger=ledger) if ledger == "parameters" else self

    @cached_property
    def neurons(self) -> ChannelTable:
        """The cost of output neurons."""
        table = self.costs("out")
        return table.weights_only() if self.ledger == "parameters" else table

    def units(self, axis: Axis) -> ChannelTable:
        """The cost of what is chosen along ``axis``, as the ledger counts it."""
        return self.neurons if axis == "out" else self.table

    def costs(self, axis: Axis) -> ChannelTable:
        """The cost of what is chosen along ``axis``, weights and inputs, whatever the ledger counts."""
        if axis not in self._costs:
            self._costs[axis] = ChannelTable.of(self.graph, axis, self.keeps)
        return self._costs[axis]

    def knapsack(self, axis: Axis) -> KnapsackOnce:
        """Elements that the ledger does not count, by those that it does: inputs by weights, or weights by both."""
        key = axis, self.ledger
        if key not in self._knapsacks:
            table = self.costs(axis)
            nothing = np.zeros_like(table.once)
            self._knapsacks[key] = (
                KnapsackOnce(table.activation[None], table.weight, table.once, nothing)
                if self.ledger == "parameters"
                else KnapsackOnce(table.weight[None], table.cost, nothing, table.once)
            )
        return self._knapsacks[key]

    def scores(self, metric: Metric) -> np.ndarray:
        """Score of each row of the table (layers,). Raises RankingError if the task has no ranking."""
        if self.ranking is None:
            raise RankingError(
                f"layers of {self.graph.model} were to be ordered by {metric}, but there is no ranking; "
                f"compute one with `kilotune rank {self.graph.model} --data D`"
            )
        return self.ranking.scores(metric)

    def last_biases(self, n_layers: int) -> tuple[str, ...]:
        """Names of those of the last ``n_layers`` layers before the classifier that have a bias."""
        last = self.graph.body[max(0, len(self.graph.body) - n_layers) :]
        return tuple(layer.name for layer in last if layer.has_bias)

    def ranked(self, metric: Metric) -> np.ndarray:
        """Rows of the table (layers,), highest score first, ties in forward order."""
        return np.argsort(-self.scores(metric), kind="stable")


@dataclass(frozen=True)
class Bound:
    """Everything that any draw of a policy at one size stays within; worst cases are computed from this.

    caps: most units (of the policy's axis) each row of the table can contribute (layers,), zero outside the pool.
    elements: most weights + inputs of one draw together, and what its layers are charged once, elements; under the
    ``parameters`` ledger weights only.
    biases: layers whose bias is trained. classifier: whether the classifier is.
    state_elements: numbers kept between draws (stored norms, traversal orders).
    """

    caps: tuple[int, ...]
    elements: int
    biases: tuple[str, ...] = ()
    classifier: bool = True
    state_elements: int = 0


class Elements(NamedTuple):
    """Weights, and weights + inputs, of the ``parameters`` and the ``selection`` ledger."""

    parameters: int
    selection: int

    @classmethod
    def worst(cls, task: Task, bound: Bound, axis: Axis) -> "Elements":
        """Most of both that any draw within ``bound`` takes: what its ledger does not count follows by the knapsack."""
        other = int(task.knapsack(axis).most(np.array(bound.caps, dtype=np.int64), bound.elements)[0])
        if task.ledger == "parameters":
            return cls(bound.elements, bound.elements + other)
        return cls(other, bound.elements)


@dataclass
class State:
    """What a policy remembers between draws; plain data, saved in checkpoints.

    draws: how many draws were made. norms: stored gradient norms by channel id, absent where none was seen yet.
    order, cursor: traversal of cyclic policies, by row of the table. chosen: channel ids of a policy that draws once.
    similarity, velocity: of units at the last look, by id.
    """

    draws: int = 0
    norms: dict[int, float] = field(default_factory=dict)
    order: dict[int, list[int]] = field(default_factory=dict)
    cursor: dict[int, int] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)
    similarity: dict[int, float] = field(default_factory=dict)
    velocity: dict[int, float] = field(default_factory=dict)


class Policy(Protocol):
    """The interface of every policy. ``size`` orders the selections a policy can make from small to large:
    elements for policies that spend a budget, the index of a scheme or the number of layers for the others.

    axis: whether it chooses input channels ("in") or output neurons ("out").
    redraw: when a new selection is due by default. observes: what ``observe`` is to be told.
    """

    name: ClassVar[str]
    axis: ClassVar[Axis] = "in"
    redraw: ClassVar[Redraw] = "never"
    observes: ClassVar[Observation] = "nothing"

    @abstractmethod
    def sizes(self, task: Task) -> range:
        """All sizes, ascending; the planner takes the largest one whose bound fits the budget."""

    def runs(self, task: Task) -> list[range]:
        """``sizes`` cut where a layer may leave the pool; within a run more is trained the larger the size."""
        return [self.sizes(task)]

    def fronts(self, task: Task) -> list[int]:
        """Values of ``Task.front`` that make a difference to this policy, ascending from 0."""
        return [0]

    @abstractmethod
    def bound(self, task: Task, size: int) -> Bound:
        """What no draw at ``size`` exceeds."""

    @abstractmethod
    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """The next selection; advances ``state`` and ``rng``."""

    def observe(self, task: Task, state: State, ids: np.ndarray, values: np.ndarray) -> None:
        """Take in what ``observes`` names, one value for each of the channels ``ids``."""
        return


def finite_norms(task: Task, ids: np.ndarray, norms: np.ndarray) -> dict[int, float]:
    """Norm by channel id, as float32. Raises TrainingError if one is not finite."""
    norms, ids = np.asarray(norms, dtype=np.float32), np.asarray(ids)
    if not np.isfinite(norms).all():
        layer = task.table.names[task.table.layer_of[int(ids[~np.isfinite(norms)][0])]]
        raise TrainingError(f"a gradient norm of {layer} is not finite; lower the learning rate")
    return dict(zip(ids.tolist(), norms.tolist(), strict=True))
