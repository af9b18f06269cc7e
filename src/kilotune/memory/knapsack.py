"""The fullest selection that a budget allows, bounded: the step from a cost table to a worst case."""

import numpy as np


class Knapsack:
    """Columns worth ``value`` (steps, columns) and costing ``cost`` (columns,) a unit, sorted for any number of budgets.

    Steps that equal the one before are computed once: between two of them often nothing but fixed buffers changes.
    """

    def __init__(self, value: np.ndarray, cost: np.ndarray):
        new = np.ones(len(value), dtype=bool)
        new[1:] = (value[1:] != value[:-1]).any(axis=1)
        self._row_of = np.cumsum(new) - 1
        value = value[new]
        self._units = cost
        self._order = np.argsort(-value / cost, axis=1, kind="stable")
        self._value, self._cost = np.take_along_axis(value, self._order, 1), cost[self._order]

    def most(self, caps: np.ndarray, budget: int) -> np.ndarray:
        """Upper bound of ``sum n value`` with ``0 <= n <= caps`` and ``sum n cost <= budget``, at each step (steps,)."""
        whole = (caps * self._units)[self._order]
        before = np.cumsum(whole, axis=1) - whole
        spent = np.clip(budget - before, 0, whole)
        return np.ceil((spent * self._value / self._cost).sum(1)).astype(np.int64)[self._row_of]


class KnapsackOnce:
    """The same where the first unit of a column is worth ``once_value`` more and costs ``once_cost`` more.

    It counts as a column of its own; that the other units come with it only is left out, which can only raise the bound.
    """

    def __init__(self, value: np.ndarray, cost: np.ndarray, once_value: np.ndarray, once_cost: np.ndarray):
        values = np.concatenate([value + once_value, value], axis=1)
        self._columns = Knapsack(values, np.concatenate([cost + once_cost, cost]))

    def most(self, caps: np.ndarray, budget: int) -> np.ndarray:
        """Upper bound of what up to ``caps`` units for ``budget`` are worth, at each step (steps,)."""
        first = np.minimum(caps, 1)
        return self._columns.most(np.concatenate([first, caps - first]), budget)
