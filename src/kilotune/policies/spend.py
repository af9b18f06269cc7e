"""Spending a budget: every method is an order on channels, and one function walks it."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from msgspec import Meta

from kilotune.errors import BudgetError
from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import Bound, Policy, State, Task
from kilotune.rng import Pcg32
from kilotune.update_plan import ChannelSet


def spend(order: Iterable[int], cost: np.ndarray, budget: int) -> np.ndarray:
    """Longest prefix of ``order`` whose total ``cost`` fits ``budget``; ``order`` is read one channel further at most.

    TraDy stops at the first channel that does not fit (its published use of the budget shows it), and so do we.
    """
    taken: list[int] = []
    for channel in order:
        budget -= int(cost[channel])
        if budget < 0:
            break
        taken.append(channel)
    return np.array(taken, dtype=np.int64)


def affordable(task: Task, rows: np.ndarray, budget: int) -> np.ndarray:
    """Those of ``rows`` from the task's front on of which one channel fits ``budget``; others could only stop the walk.

    Raises BudgetError if there is none.
    """
    table, rows = task.table, rows[rows >= task.front]
    kept = rows[table.cost[rows] <= budget]
    if not len(kept):
        cheapest = rows[np.argmin(table.cost[rows])]
        raise BudgetError(
            f"{budget:,} elements cannot hold a single channel: the cheapest one, in {table.names[cheapest]}, costs "
            f"{table.cost[cheapest]:,} elements; raise the budget, lower the input size, or train the classifier only"
        )
    return kept


def cut(sizes: range, places: Iterable[int]) -> list[range]:
    """``sizes`` in runs, a new one beginning at each of ``places``."""
    starts = sorted({sizes.start, *(place for place in places if place in sizes)})
    return [range(start, stop) for start, stop in pairwise([*starts, sizes.stop])]


@dataclass(frozen=True)
class SpendingPolicy(Policy):
    """A policy whose size is a number of elements, spent on channels of a pool of layers along an order.

    biases: the biases of this many last layers before the classifier are trained besides, in every draw; the papers train
    the shifts of batch norm in all layers and count them nowhere, the ``total`` ledger counts them.
    """

    biases: Annotated[int, Meta(ge=0)] = 0

    @abstractmethod
    def layers(self, task: Task) -> np.ndarray:
        """Rows that this policy chooses from, at whatever size; best first where it ranks them."""

    @abstractmethod
    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """The channels ``ids`` of the pool in the order in which they are bought."""

    def pool(self, task: Task, size: int) -> np.ndarray:
        """Rows that draws at ``size`` choose from. Raises BudgetError if no channel fits."""
        return affordable(task, self.layers(task), size)

    def fronts(self, task: Task) -> list[int]:
        """Without none, the first, the first two ... of its layers."""
        return [0, *np.sort(self.layers(task))[1:].tolist()]

    def sizes(self, task: Task) -> range:
        """From one channel of the cheapest layer to all channels, in elements; empty where there is no layer."""
        rows = self.layers(task)
        rows = rows[rows >= task.front]
        cost = task.table.cost[rows]
        if not len(rows):
            return range(0)
        return range(int(cost.min()), int(cost @ task.table.channels[rows]) + 1)

    def bound(self, task: Task, size: int) -> Bound:
        """Of each layer of the pool, as many channels as the whole budget buys; together no more than the budget."""
        table, rows = task.table, self.pool(task, size)
        caps = np.zeros_like(table.channels)
        caps[rows] = np.minimum(table.channels[rows], size // table.cost[rows])
        elements = min(size, int(table.cost[rows] @ table.channels[rows]))
        biases = task.last_biases(self.biases)
        return Bound(tuple(caps.tolist()), elements, biases, state_elements=self.state_elements(table, rows))

    def state_elements(self, table: ChannelTable, rows: np.ndarray) -> int:
        """Numbers kept between draws for the pool ``rows``."""
        return 0

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """Channels along ``order`` until the next does not fit; the same ones again if this policy draws only once."""
        table = task.table
        if self.redraw != "never" or not state.chosen:
            ids = np.concatenate([table.ids(row) for row in np.sort(self.pool(task, size))])
            state.chosen = spend(self.order(task, ids, state, rng), table.channel_cost, size).tolist()
        state.draws += 1
        return table.to_sets(np.array(state.chosen, dtype=np.int64))
