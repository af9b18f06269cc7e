"""From a budget to a running selection: the largest size of a policy whose every draw provably fits."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np

from kilotune.errors import BudgetError, KilotuneError, RunError
from kilotune.graph.node import Graph
from kilotune.memory.ledger import Accounting, Layout
from kilotune.policies import POLICIES, make
from kilotune.policies.base import Bound, Policy, State, Task
from kilotune.policies.ranking import Ranking
from kilotune.rng import Pcg32
from kilotune.units import format_bytes
from kilotune.update_plan import Budget, Ledger, UpdatePlan


class WorstCase(NamedTuple):
    """What no draw exceeds."""

    selection_elements: int
    total_bytes: int


@dataclass(frozen=True)
class Fitting:
    """A policy on a network: what each of its sizes costs at worst."""

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
            self._layouts[key] = Layout.of(self.task.graph, *key, self.accounting)
        return self._layouts[key]

    def pool(self, bound: Bound) -> tuple[str, ...]:
        """Layers that may be drawn from."""
        return tuple(name for name, cap in zip(self.task.table.names, bound.caps, strict=True) if cap)

    def worst(self, size: int) -> WorstCase:
        """Most that any draw at ``size`` takes, in both ledgers."""
        bound = self.bound(size)
        caps = np.array(bound.caps, dtype=np.int64)
        return WorstCase(bound.elements, self.layout(bound).worst_bytes(caps, bound.elements, self.state_bytes(bound)))

    def state_bytes(self, bound: Bound) -> int:
        """RAM of what the policy remembers between draws."""
        return bound.state_elements * self.accounting.element_bytes

    def cost(self, size: int, budget: Budget) -> int:
        """Bytes that count against ``budget`` at ``size``."""
        if budget.ledger == "selection":
            return self.bound(size).elements * self.accounting.element_bytes
        return self.worst(size).total_bytes

    def largest(self, budget: Budget) -> int:
        """The largest size that fits. Raises BudgetError, saying what would, if none does."""
        sizes = self.policy.sizes(self.task)
        if not len(sizes) or self.cost(sizes[0], budget) > budget.nbytes:
            raise BudgetError(self._advice(budget, sizes))
        low, high = 0, len(sizes) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.cost(sizes[middle], budget) <= budget.nbytes else (low, middle - 1)
        return sizes[low]

    def _advice(self, budget: Budget, sizes: range) -> str:
        needs = f"needs at least {format_bytes(self.cost(sizes[0], budget))}" if len(sizes) else "has nothing to train"
        shape = "x".join(map(str, self.task.graph.input.shape[1:]))
        others = ", ".join(self._that_fit(budget)) or "no policy does"
        return (
            f"policy {self.policy.name} on {self.task.graph.model} at {shape} {needs} ({budget.ledger} ledger), the budget "
            f"is {format_bytes(budget.nbytes)}; raise the budget, use a smaller input, or a policy that fits: {others}"
        )

    def _that_fit(self, budget: Budget) -> list[str]:
        names = []
        for name in POLICIES:
            other = Fitting(self.task, make(name), self.accounting, self._layouts)
            try:
                smallest = other.policy.sizes(self.task)[0]
                if other.cost(smallest, budget) <= budget.nbytes:
                    names.append(name)
            except (KilotuneError, IndexError):
                continue
        return names


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
    ) -> "Selector":
        """The largest selection of ``policy`` of which every draw fits ``budget``. Raises BudgetError if none does."""
        fitting = Fitting(Task.of(graph, ranking), policy, accounting or Accounting())
        return cls(fitting, fitting.largest(budget), Pcg32(seed))

    @property
    def policy(self) -> Policy:
        """The policy that draws."""
        return self.fitting.policy

    @property
    def dynamic(self) -> bool:
        """Whether the policy changes its choice while training."""
        return self.policy.redraw != "never"

    @cached_property
    def worst_case(self) -> WorstCase:
        """What no draw exceeds, in both ledgers."""
        return self.fitting.worst(self.size)

    @cached_property
    def layout(self) -> Layout:
        """The memory of one step; every draw runs in it."""
        return self.fitting.layout(self.fitting.bound(self.size))

    def draw(self) -> UpdatePlan:
        """The next plan."""
        bound = self.fitting.bound(self.size)
        sets = self.policy.draw(self.fitting.task, self.size, self.memory, self.rng)
        pool = self.fitting.pool(bound)
        fixed = pool == tuple(chosen.layer for chosen in sets)
        return UpdatePlan(sets, bound.biases, bound.classifier, () if fixed else pool, self.fitting.state_bytes(bound))

    def observe(self, plan: UpdatePlan, norms: dict[str, np.ndarray]) -> None:
        """Take in the gradient norms (k,) of the channels that ``plan`` trained, by layer."""
        table = self.fitting.task.table
        trained = [chosen for chosen in plan.channels if chosen.layer in norms]
        if trained:
            values = np.concatenate([norms[chosen.layer] for chosen in trained])
            self.policy.observe(self.fitting.task, self.memory, table.to_ids(tuple(trained)), values)

    def state(self) -> dict[str, Any]:
        """Everything needed to continue the sequence of draws, as plain JSON data."""
        return {
            "size": self.size,
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
        if state["size"] != self.size:
            raise RunError(
                f"the saved policy state is of size {state['size']}, this budget gives {self.size}; use the same budget"
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
    **options: object,
) -> UpdatePlan:
    """The first plan that ``policy`` draws on ``graph`` under ``budget``; ``options`` are those of the policy.

    Raises BudgetError if not even the smallest selection fits, PlanError for an unknown policy or option.
    """
    selector = Selector.fit(graph, make(policy, **options), Budget.parse(budget, ledger), seed, accounting, ranking)
    return selector.draw()
