"""From a budget to a running selection: the largest size of a policy whose every draw provably fits, and its draws."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from kilotune.errors import BudgetError, RunError
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout, LedgerReport
from kilotune.memory.survey import survey_report
from kilotune.policies import make
from kilotune.policies.advice import advice
from kilotune.policies.base import PASSES, Policy, State, Task
from kilotune.policies.fitting import Fitting, WorstCase
from kilotune.policies.ranking import Ranking
from kilotune.rng import Pcg32
from kilotune.update_plan import Budget, Ledger, UpdatePlan


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

    def fork(self) -> "Selector":
        """One that will draw the same from here on, on its own."""
        return replace(self, rng=Pcg32.restore(self.rng.state()), memory=deepcopy(self.memory))

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
        bound, network = self.fitting.bound(self.size), self.fitting.task.graph.fingerprint
        sets = self.policy.draw(self.fitting.task, self.size, self.memory, self.rng)
        pool = self.fitting.pool(bound)
        fixed = pool == tuple(chosen.layer for chosen in sets)
        state_bytes, keeps = self.fitting.state_bytes(bound), self.fitting.keeps(bound)
        return UpdatePlan(
            sets, bound.biases, bound.classifier, () if fixed else pool, state_bytes, keeps, network=network
        )

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
