"""Spending a budget: every method is an order on channels, and one function walks it."""

import numpy as np


def spend(order: np.ndarray, cost: np.ndarray, budget: int) -> np.ndarray:
    """Longest prefix of ``order`` whose total ``cost`` fits ``budget``.

    TraDy stops at the first channel that does not fit (its published use of the budget shows it), and so do we.
    """
    return order[np.cumsum(cost[order]) <= budget]
