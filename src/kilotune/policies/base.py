"""What a policy is: a frozen value that turns a budget into channels, with its memory passed in and out."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np

from kilotune.graph.node import Graph
from kilotune.memory.cost import ChannelTable
from kilotune.plan import ChannelSet
from kilotune.policies.ranking import Ranking
from kilotune.rng import Pcg32

Redraw = Literal["never", "epoch", "step"]


@dataclass(frozen=True)
class Task:
    """What a policy chooses from: the network, the cost of its channels, and a layer ranking where the policy needs one."""

    graph: Graph
    table: ChannelTable
    ranking: Ranking | None = None


@dataclass(frozen=True)
class Bound:
    """Everything that any draw of a policy at one size stays within; worst cases are computed from this.

    caps: most input channels each row of the table can contribute (layers,), zero outside the pool.
    elements: most weights + inputs of one draw together, elements.
    biases: layers whose bias is trained. classifier: whether the classifier is.
    state_elements: numbers kept between draws (stored norms).
    """

    caps: tuple[int, ...]
    elements: int
    biases: tuple[str, ...] = ()
    classifier: bool = True
    state_elements: int = 0


@dataclass
class State:
    """What a policy remembers between draws; plain data, saved in checkpoints.

    draws: how many draws were made. norms: stored gradient norms by channel id, NaN where none was seen yet.
    order, cursor: traversal state of cyclic policies, by row of the table.
    """

    draws: int = 0
    norms: list[float] = field(default_factory=list)
    order: dict[int, list[int]] = field(default_factory=dict)
    cursor: dict[int, int] = field(default_factory=dict)


class Policy(Protocol):
    """The interface of every policy. ``size`` orders the selections a policy can make from small to large:
    elements for policies that spend a budget, the index of a scheme or the number of layers for the others."""

    name: ClassVar[str]
    redraw: ClassVar[Redraw]
    ranking_metric: ClassVar[str | None]

    def sizes(self, task: Task) -> range:
        """All sizes, ascending; the planner takes the largest one whose bound fits the budget."""

    def bound(self, task: Task, size: int) -> Bound:
        """What no draw at ``size`` exceeds."""

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """The next selection; advances ``state`` and ``rng``."""

    def observe(self, task: Task, state: State, ids: np.ndarray, norms: np.ndarray) -> None:
        """Take in the gradient norms of the channels just trained."""
