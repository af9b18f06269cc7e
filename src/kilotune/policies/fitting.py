"""What the sizes of a policy cost at worst, and which of them fits a budget."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout, Worst
from kilotune.memory.timelines import Timelines
from kilotune.policies.base import Bound, Elements, Policy, Task
from kilotune.policies.narrow import Narrowing, first_worth
from kilotune.update_plan import Budget, Keep, Ledger

WORTH = 3 / 4
"""The first layers are left out only where with them less than this part of the largest selection would fit."""


class WorstCase(NamedTuple):
    """What no draw exceeds."""

    parameter_elements: int
    selection_elements: int
    total_bytes: int


@dataclass(frozen=True)
class Fitting:
    """A policy on a network, or on its layers from ``task.front`` on: what each of its sizes costs at worst.

    timelines: of this network under this accounting, where others have some already; None: made here.
    """

    task: Task
    policy: Policy
    accounting: Accounting
    timelines: Timelines | None = field(default=None, repr=False, compare=False)
    _layouts: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if self.timelines is None:
            object.__setattr__(self, "timelines", Timelines(self.task.graph, self.accounting))

    def bound(self, size: int) -> Bound:
        """What no draw at ``size`` exceeds."""
        return self.policy.bound(self.task, size)

    def layout(self, bound: Bound) -> Layout:
        """The memory of one step in which any draw within ``bound`` can run."""
        key = (self.pool(bound), bound.biases, bound.classifier)
        if key not in self._layouts:
            keeps = self.keeps(bound)
            self._layouts[key] = Layout.of(self.task.graph, *key, self.accounting, keeps, self.timelines)
        return self._layouts[key]

    def pool(self, bound: Bound) -> tuple[str, ...]:
        """Layers that may be drawn from."""
        return tuple(name for name, cap in zip(self.task.table.names, bound.caps, strict=True) if cap)

    def keeps(self, bound: Bound) -> tuple[Keep, ...]:
        """How the layers that may be drawn from, and the classifier, keep their inputs."""
        trained = {*self.pool(bound), self.task.graph.classifier if bound.classifier else None}
        return tuple(keep for keep in self.task.keeps if keep.layer in trained)

    def worst(self, size: int) -> WorstCase:
        """Most that any draw at ``size`` takes, in all ledgers."""
        bound = self.bound(size)
        return WorstCase(*Elements.worst(self.task, bound, self.policy.axis), self._fullest(bound).nbytes)

    def _fullest(self, bound: Bound) -> Worst:
        """Of the ``total`` ledger."""
        axis, elements = self.policy.axis, bound.elements
        if self.task.ledger == "parameters":
            elements = Elements.worst(self.task, bound, axis).selection
        caps = np.array(bound.caps, dtype=np.int64)
        return self.layout(bound).worst(caps, elements, self.state_bytes(bound), axis)

    def state_bytes(self, bound: Bound) -> int:
        """RAM of what the policy remembers between draws."""
        return bound.state_elements * self.accounting.element_bytes

    def cost(self, size: int, budget: Budget) -> int:
        """Bytes that count against ``budget`` at ``size``."""
        return self.count(self.bound(size), budget.ledger)

    def count(self, bound: Bound, ledger: Ledger) -> int:
        """Bytes of the ledger that no draw within ``bound`` exceeds."""
        if ledger == "total":
            return self._fullest(bound).nbytes
        return getattr(Elements.worst(self.task, bound, self.policy.axis), ledger) * self.accounting.element_bytes

    def fits(self, bound: Bound, budget: Budget) -> bool:
        """Whether no draw within ``bound`` exceeds ``budget``; what cannot fit, however it is packed, is not packed."""
        if budget.ledger == "total":
            return self.floor(bound, budget) <= budget.nbytes and self._fullest(bound).fits(budget.nbytes)
        return self.count(bound, budget.ledger) <= budget.nbytes

    def floor(self, bound: Bound, budget: Budget) -> int:
        """Bytes that ``count`` is never below, quickly."""
        return self.layout(bound).floor_bytes if budget.ledger == "total" else 0

    def largest(self, budget: Budget) -> int | None:
        """The largest size that fits; None if none does."""
        return self._narrowing(budget).result()

    def _narrowing(self, budget: Budget) -> Narrowing:
        runs = self.policy.runs(self.task)
        return Narrowing(runs, lambda size: self.fits(self.bound(size), budget))

    def without_front(self, budget: Budget) -> "Fitting":
        """This policy without its first layers, as few of them as let at least ``WORTH`` of the largest selection fit.

        Only the ``total`` ledger sees how deep gradients go, so under the others no layer is left out.
        """
        sizes, fronts = self.policy.sizes(self.task), self.fronts()
        if budget.ledger != "total" or len(fronts) == 1:
            return self
        found = [fitting._narrowing(budget) for fitting in fronts]
        if len(sizes) and found[0].reaches(sizes[-1]):
            return self
        return fronts[first_worth(WORTH, found)]

    def fronts(self) -> list["Fitting"]:
        """This policy without none, one, two ... of its first layers."""
        return [replace(self, task=replace(self.task, front=front)) for front in self.policy.fronts(self.task)]

    def least(self, budget: Budget) -> int | None:
        """The smallest budget, bytes of its ledger, under which anything fits; None where there is nothing to train.

        Pools of the last layers come first: they take least, so that of most others the buffers alone take more.
        """
        least: int | None = None
        for fitting in reversed(self.fronts()):
            for bound in fitting.smallest():
                if least is None or fitting.fits(bound, replace(budget, nbytes=least - 1)):
                    least = fitting.count(bound, budget.ledger)
        return least

    def smallest(self) -> Iterator[Bound]:
        """What no draw exceeds at the smallest size of each run."""
        for run in self.policy.runs(self.task):
            if run:
                yield self.bound(run[0])
