"""The fullest selection that a budget allows, bounded: the step from a cost table to a worst case."""

import numpy as np


def knapsack(value: np.ndarray, cost: np.ndarray, caps: np.ndarray, budget: int) -> np.ndarray:
    """Upper bound of ``sum n value`` with ``0 <= n <= caps`` and ``sum n cost <= budget``, per row of ``value`` (steps,)."""
    order = np.argsort(-value / cost, axis=1, kind="stable")
    whole = (caps * cost)[order]
    before = np.cumsum(whole, axis=1) - whole
    spent = np.clip(budget - before, 0, whole)
    return np.ceil((spent * np.take_along_axis(value, order, 1) / cost[order]).sum(1)).astype(np.int64)
