"""The fullest selection that a budget allows, bounded: the step from a cost table to a worst case."""

import numpy as np


def knapsack(value: np.ndarray, cost: np.ndarray, caps: np.ndarray, budget: int) -> np.ndarray:
    """Upper bound of ``sum n value`` with ``0 <= n <= caps`` and ``sum n cost <= budget``, per row of ``value`` (steps,)."""
    order = np.argsort(-value / cost, axis=1, kind="stable")
    whole = (caps * cost)[order]
    before = np.cumsum(whole, axis=1) - whole
    spent = np.clip(budget - before, 0, whole)
    return np.ceil((spent * np.take_along_axis(value, order, 1) / cost[order]).sum(1)).astype(np.int64)


def knapsack_once(
    value: np.ndarray, cost: np.ndarray, caps: np.ndarray, budget: int, once_value: np.ndarray, once_cost: np.ndarray
) -> np.ndarray:
    """The same where the first unit of a column is worth ``once_value`` more and costs ``once_cost`` more.

    It counts as a column of its own; that the other units come with it only is left out, which can only raise the bound.
    """
    first = np.minimum(caps, 1)
    values = np.concatenate([value + once_value, value], axis=1)
    return knapsack(values, np.concatenate([cost + once_cost, cost]), np.concatenate([first, caps - first]), budget)
