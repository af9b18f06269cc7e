"""Spending a budget: every method is an order on channels, and one function walks it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from msgspec import Meta

from kilotune.errors import BudgetError
from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import Bound, Policy, State, Task
from kilotune.rng import Pcg32
from kilotune.update_plan import Axis, ChannelSet

_UNIT = {"in": "channel", "out": "neuron"}


def spend(order: Iterable[int], price: Callable[[int], int], budget: int) -> np.ndarray:
    """Longest prefix of ``order`` whose ``price``, asked for unit by unit, fits ``budget``; one more is read at most.

    TraDy stops at the first channel that does not fit (its published use of the budget shows it), and so do we.
    """
    taken: list[int] = []
    for unit in order:
        budget -= price(unit)
        if budget < 0:
            break
        taken.append(unit)
    return np.array(taken, dtype=np.int64)


class Prices:
    """What each unit costs when it is bought: the first one of a layer also what the layer is charged once."""

    def __init__(self, table: ChannelTable):
        self._cost, self._once, self._layer_of = table.channel_cost, table.once.copy(), table.layer_of

    def __call__(self, unit: int) -> int:
        row = self._layer_of[unit]
        charged, self._once[row] = self._once[row], 0
        return int(self._cost[unit] + charged)


def affordable(task: Task, rows: np.ndarray, budget: int, axis: Axis = "in") -> np.ndarray:
    """Those of ``rows`` from the task's front on of which one unit fits ``budget``; others could only stop the walk.

    Raises BudgetError if there is none.
    """
    table, rows = task.units(axis), rows[rows >= task.front]
    alone = table.once + table.cost
    kept = rows[alone[rows] <= budget]
    if not len(kept):
        cheapest = rows[np.argmin(alone[rows])]
        raise BudgetError(
            f"{budget:,} elements cannot hold a single {_UNIT[axis]}: the cheapest one, in {table.names[cheapest]}, costs "
            f"{alone[cheapest]:,} elements; raise the budget, lower the input size, or train the classifier only"
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
    front: no channel of the first so many layers is trained; a budget may leave out more of them.
    """

    biases: Annotated[int, Meta(ge=0)] = 0
    front: Annotated[int, Meta(ge=0)] = 0

    @abstractmethod
    def layers(self, task: Task) -> np.ndarray:
        """Rows that this policy chooses from, at whatever size; best first where it ranks them."""

    @abstractmethod
    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """The channels ``ids`` of the pool in the order in which they are bought."""

    def behind(self, task: Task) -> np.ndarray:
        """Those of ``layers`` that are not among the first ``front`` of the network, in the same order."""
        rows = self.layers(task)
        return rows[rows >= self.front]

    def pool(self, task: Task, size: int) -> np.ndarray:
        """Rows that draws at ``size`` choose from. Raises BudgetError if no channel fits."""
        return affordable(task, self.behind(task), size, self.axis)

    def fronts(self, task: Task) -> list[int]:
        """Without none, the first, the first two ... of its layers."""
        return [0, *np.sort(self.behind(task))[1:].tolist()]

    def sizes(self, task: Task) -> range:
        """From one channel of the cheapest layer to all channels, in elements; empty where there is no layer."""
        table, rows = task.units(self.axis), self.behind(task)
        rows = rows[rows >= task.front]
        if not len(rows):
            return range(0)
        smallest = (table.once + table.cost)[rows].min()
        return range(int(smallest), table.total(_only(table, rows)) + 1)

    def runs(self, task: Task) -> list[range]:
        """Cut where one more layer can be charged once."""
        table = task.units(self.axis)
        return cut(self.sizes(task), (table.once + table.cost)[table.once > 0].tolist())

    def bound(self, task: Task, size: int) -> Bound:
        """Of each layer of the pool, as many channels as the whole budget buys; together no more than the budget."""
        table, rows = task.units(self.axis), self.pool(task, size)
        caps = np.zeros_like(table.channels)
        caps[rows] = np.minimum(table.channels[rows], (size - table.once[rows]) // table.cost[rows])
        elements = min(size, table.total(_only(table, rows)))
        biases = task.last_biases(self.biases)
        return Bound(tuple(caps.tolist()), elements, biases, state_elements=self.state_elements(task, rows))

    def state_elements(self, task: Task, rows: np.ndarray) -> int:
        """Numbers kept between draws for the pool ``rows``."""
        return 0

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """Channels along ``order`` until the next does not fit; the same ones again if this policy draws only once."""
        table = task.units(self.axis)
        if self.redraw != "never" or not state.chosen:
            rows = np.sort(self.pool(task, size))
            ids = np.concatenate([table.ids(row) for row in rows])
            state.chosen = spend(self.order(task, ids, state, rng), Prices(table), size).tolist()
        state.draws += 1
        return table.to_sets(np.array(state.chosen, dtype=np.int64))


def _only(table: ChannelTable, rows: np.ndarray) -> np.ndarray:
    """All units of ``rows`` and none of the others (layers,)."""
    counts = np.zeros_like(table.channels)
    counts[rows] = table.channels[rows]
    return counts
