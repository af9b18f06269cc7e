"""From a budget to a running selection: the largest size of a policy whose every draw provably fits."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np

from kilotune.errors import BudgetError, RunError
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout, LedgerReport
from kilotune.memory.survey import survey_report
from kilotune.policies import make
from kilotune.policies.advice import advice
from kilotune.policies.base import PASSES, Bound, Elements, Policy, State, Task
from kilotune.policies.ranking import Ranking
from kilotune.rng import Pcg32
from kilotune.update_plan import Budget, Keep, Ledger, UpdatePlan

WORTH = 3 / 4
"""The first layers are left out only where with them less than this part of the largest selection would fit."""


class WorstCase(NamedTuple):
    """What no draw exceeds."""

    parameter_elements: int
    selection_elements: int
    total_bytes: int


@dataclass(frozen=True)
class Fitting:
    """A policy on a network, or on its layers from ``task.front`` on: what each of its sizes costs at worst."""

    task: Task
    policy: Policy
    accounting: Accounting
    _layouts: dict = field(default_factory=dict, repr=False)

    def bound(self, size: int) -> Bound:
        """What no draw at ``size`` exceeds."""
        return self.policy.bound(self.task, size)

    def layout(self, bound: Bound) -> Layout:
        """The memory of one step in which any draw within ``bound`` can run."""
        key = (self.pool(bound), bound.biases, bound.classifier)
        if key not in self._layouts:
            self._layouts[key] = Layout.of(self.task.graph, *key, self.accounting, self.keeps(bound))
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
        return self._worst(self.bound(size))

    def _worst(self, bound: Bound) -> WorstCase:
        caps, most = np.array(bound.caps, dtype=np.int64), Elements.worst(self.task, bound, self.policy.axis)
        total = self.layout(bound).worst_bytes(caps, most.selection, self.state_bytes(bound), self.policy.axis)
        return WorstCase(*most, total)

    def state_bytes(self, bound: Bound) -> int:
        """RAM of what the policy remembers between draws."""
        return bound.state_elements * self.accounting.element_bytes

    def cost(self, size: int, budget: Budget) -> int:
        """Bytes that count against ``budget`` at ``size``."""
        return self.count(self.bound(size), budget.ledger)

    def count(self, bound: Bound, ledger: Ledger) -> int:
        """Bytes of the ledger that no draw within ``bound`` exceeds."""
        if ledger == "total":
            return self._worst(bound).total_bytes
        return getattr(Elements.worst(self.task, bound, self.policy.axis), ledger) * self.accounting.element_bytes

    def fits(self, bound: Bound, budget: Budget) -> bool:
        """Whether no draw within ``bound`` exceeds ``budget``; where even the buffers alone do, they are not packed."""
        return self.floor(bound, budget) <= budget.nbytes and self.count(bound, budget.ledger) <= budget.nbytes

    def floor(self, bound: Bound, budget: Budget) -> int:
        """Bytes that ``count`` is never below, quickly."""
        return self.layout(bound).floor_bytes if budget.ledger == "total" else 0

    def largest(self, budget: Budget) -> int | None:
        """The largest size that fits; None if none does."""
        for run in reversed(self.policy.runs(self.task)):
            if run and self.fits(self.bound(run[0]), budget):
                return self._last_that_fits(run, budget)
        return None

    def _last_that_fits(self, run: range, budget: Budget) -> int:
        """By bisection; it fits even where costs do not rise all along ``run``, whose first size does."""
        low, high = 0, len(run) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(self.bound(run[middle]), budget) else (low, middle - 1)
        return run[low]

    def without_front(self, budget: Budget) -> "Fitting":
        """This policy without its first layers, as few of them as let at least ``WORTH`` of the largest selection fit.

        Only the ``total`` ledger sees how deep gradients go, so under the others no layer is left out.
        """
        sizes = self.policy.sizes(self.task)
        if budget.ledger != "total" or (len(sizes) and self.largest(budget) == sizes[-1]):
            return self
        fronts = self.fronts()
        largest = [fitting.largest(budget) or 0 for fitting in fronts]
        return next(fitting for fitting, size in zip(fronts, largest, strict=True) if size >= WORTH * max(largest))

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
                if least is None or fitting.floor(bound, budget) < least:
                    cost = fitting.count(bound, budget.ledger)
                    least = cost if least is None else min(least, cost)
        return least

    def smallest(self) -> Iterator[Bound]:
        """What no draw exceeds at the smallest size of each run."""
        for run in self.policy.runs(self.task):
            if run:
                yield self.bound(run[0])


@dataclass
class Selector:
    """A policy at the size that fits its budget, with its memory and its generator: draws one plan after another."""

    fitting: Fitting
    size: int
    rng: Pcg32
    memory: State = field(default_factory=State)

    @classmethod
    def fit(
        cls,
        graph: Graph,
        policy: Policy,
        budget: Budget,
        seed: int = 0,
        accounting: Accounting | None = None,
        ranking: Ranking | None = None,
        keep: str | Mapping[str, str] | None = None,
    ) -> "Selector":
        """The largest selection of ``policy`` of which every draw fits ``budget``, inputs kept as ``keep`` says.

        Raises BudgetError if none does, PlanError if inputs cannot be kept so.
        """
        task = Task.of(graph, ranking, keep).counted_in(budget.ledger)
        fitting = Fitting(task, policy, accounting or Accounting()).without_front(budget)
        selector = cls.largest(fitting, budget, seed)
        if selector is None:
            raise BudgetError(advice(fitting, budget))
        return selector

    @classmethod
    def largest(cls, fitting: Fitting, budget: Budget, seed: int) -> "Selector | None":
        """The largest selection that fits; None if none does."""
        size = fitting.largest(budget)
        return None if size is None else cls(fitting, size, Pcg32(seed))

    @property
    def policy(self) -> Policy:
        """The policy that draws."""
        return self.fitting.policy

    @property
    def first_layer(self) -> str | None:
        """Name of the first layer that may be trained; None where no layer is left out."""
        task = self.fitting.task
        return task.table.names[task.front] if task.front else None

    @property
    def dynamic(self) -> bool:
        """Whether the policy changes its choice while training."""
        return self.policy.redraw != "never"

    @cached_property
    def worst_case(self) -> WorstCase:
        """What no draw exceeds, in all ledgers."""
        return self.fitting.worst(self.size)

    @cached_property
    def layout(self) -> Layout:
        """The memory of one step; every draw runs in it."""
        return self.fitting.layout(self.fitting.bound(self.size))

    @property
    def pool(self) -> tuple[str, ...]:
        """Layers that any draw may choose from."""
        return self.fitting.pool(self.fitting.bound(self.size))

    @cached_property
    def survey(self) -> LedgerReport | None:
        """What each of an oracle's passes costs, outside the budget; None for all other policies."""
        if self.policy.observes not in PASSES:
            return None
        return survey_report(self.fitting.task.graph, self.pool, self.fitting.accounting)

    def draw(self) -> UpdatePlan:
        """The next plan."""
        bound = self.fitting.bound(self.size)
        sets = self.policy.draw(self.fitting.task, self.size, self.memory, self.rng)
        pool = self.fitting.pool(bound)
        fixed = pool == tuple(chosen.layer for chosen in sets)
        state_bytes, keeps = self.fitting.state_bytes(bound), self.fitting.keeps(bound)
        return UpdatePlan(sets, bound.biases, bound.classifier, () if fixed else pool, state_bytes, keeps)

    def observe(self, plan: UpdatePlan, norms: dict[str, np.ndarray]) -> None:
        """Take in the gradient norms (k,) of the channels of ``plan``, by layer."""
        table = self.fitting.task.units(self.policy.axis)
        trained = [chosen for chosen in plan.channels if chosen.layer in norms]
        if trained:
            values = np.concatenate([norms[chosen.layer] for chosen in trained])
            self.policy.observe(self.fitting.task, self.memory, table.to_ids(tuple(trained)), values)

    def state(self) -> dict[str, Any]:
        """Everything needed to continue the sequence of draws, as plain JSON data."""
        return {
            "size": self.size,
            "front": self.fitting.task.front,
            "rng": list(self.rng.state()),
            "memory": msgspec.to_builtins(asdict(self.memory), str_keys=True),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken. Raises RunError if it was taken from another size or is damaged."""
        try:
            memory, rng = msgspec.convert(state["memory"], type=State, strict=False), Pcg32.restore(tuple(state["rng"]))
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            raise RunError(
                f"the saved state of policy {self.policy.name} is damaged: {error}; start the run again"
            ) from error
        ours = (self.size, self.fitting.task.front)
        theirs = (state["size"], state.get("front", 0))
        if theirs != ours:
            raise RunError(
                f"the saved policy state is of size {theirs[0]} without the first {theirs[1]} layers, this budget gives "
                f"size {ours[0]} without {ours[1]}; use the same budget"
            )
        self.memory, self.rng = memory, rng


def plan(
    graph: Graph,
    policy: str = "medyate",
    budget: str | int = "256KiB",
    ledger: Ledger = "total",
    seed: int = 0,
    ranking: Ranking | None = None,
    accounting: Accounting | None = None,
    keep: str | Mapping[str, str] | None = None,
    **options: object,
) -> UpdatePlan:
    """The first plan that ``policy`` draws on ``graph`` under ``budget``; ``options`` are those of the policy.

    keep: how trained layers keep their inputs, such as "int8" or "hosvd:0.8", or such texts by layer; None: exactly.
    Raises BudgetError if not even the smallest selection fits, PlanError for an unknown policy, option or way of keeping.
    """
    chosen, limit = make(policy, **options), Budget.parse(budget, ledger)
    return Selector.fit(graph, chosen, limit, seed, accounting, ranking, keep).draw()
