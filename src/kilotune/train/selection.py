"""What a run trains now, and when it draws anew."""

from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.memory.survey import whole_layers
from kilotune.policies import make
from kilotune.policies.base import PASSES, Observation, Policy, Redraw
from kilotune.policies.fit import Selector
from kilotune.policies.oracles import Oracle
from kilotune.policies.ranking import Ranking
from kilotune.train.optim import ledger_name
from kilotune.train.recipe import Recipe
from kilotune.train.record import LedgerFigures, SurveyFigures
from kilotune.update_plan import Budget, UpdatePlan

UNLIMITED = 1 << 62
_STEPS_BETWEEN_DRAWS = {"never": None, "epoch": inf, "step": 1}


def accounting_of(recipe: Recipe) -> Accounting:
    """How the ledger of a run counts: for the device, which holds one sample at a time in float32, whatever batch the host uses.

    Gradients need a buffer where more than one sample makes an update.
    """
    return Accounting(
        accumulate=recipe.batch_size * recipe.accumulate > 1,
        optimizer=ledger_name(recipe),
        streamed=recipe.streamed,
        program_bytes=recipe.program,
    )


def selector_of(graph: Graph, recipe: Recipe, accounting: Accounting) -> Selector:
    """The recipe's policy at the size that fits its budget; raises as ``Selection``."""
    budget = Budget.parse(UNLIMITED if recipe.budget is None else recipe.budget, recipe.ledger)
    policy = make(recipe.policy, **recipe.options)
    ranking = None if recipe.ranking is None else Ranking.load(Path(recipe.ranking))
    return Selector.fit(graph, policy, budget, recipe.seed, accounting, ranking, recipe.keep)


def redraw_of(policy: Policy, recipe: Recipe) -> Redraw | int:
    """When a run draws anew: as the policy's paper does it, unless the recipe says otherwise."""
    return policy.redraw if recipe.redraw == "policy" else recipe.redraw


class Selection:
    """The recipe's policy at the size that fits its budget, and the plan it drew last.

    Raises PlanError, RankingError or RunError for a recipe that contradicts itself, BudgetError if nothing fits.
    """

    def __init__(self, graph: Graph, recipe: Recipe):
        self._selector = selector_of(graph, recipe, accounting_of(recipe))
        rule = redraw_of(self.policy, recipe)
        self._interval = _STEPS_BETWEEN_DRAWS[rule] if isinstance(rule, str) else rule
        self.plan = self._selector.draw()

    @property
    def observes(self) -> Observation:
        """What the policy wants to be told."""
        return self._selector.policy.observes

    @property
    def wants_survey(self) -> bool:
        """Whether the next draw of an oracle needs its pass: each one, or only that which replaces the first plan."""
        return self._selector.dynamic or self._selector.memory.draws == 1

    @property
    def policy(self) -> Policy:
        """The policy that draws."""
        return self._selector.policy

    @property
    def pool(self) -> tuple[str, ...]:
        """Layers that any draw may choose from."""
        return self._selector.pool

    @property
    def all_units(self) -> UpdatePlan:
        """Everything that could be drawn, as a plan."""
        return whole_layers(self._selector.fitting.task.graph, self.pool, self.policy.axis)

    @property
    def survey_steps(self) -> int | None:
        """Steps of an oracle's pass, None for a whole epoch."""
        policy = self._selector.policy
        return policy.survey_steps if isinstance(policy, Oracle) else None

    @property
    def draws_again(self) -> bool:
        """Whether other plans follow the first one."""
        return self._interval is not None or self.observes in PASSES

    @property
    def draws_in_epochs(self) -> bool:
        """Whether new plans are due within an epoch, not only at its start."""
        return self._interval not in (None, inf)

    def is_due(self, epoch: int, step: int) -> bool:
        """Whether a new plan is due before ``step`` of ``epoch``, both from 0.

        A run starts with its first plan, but for an oracle, which has seen no gradient when that is drawn.
        """
        if (epoch, step) == (0, 0):
            return self.observes in PASSES
        return self._interval is not None and step % self._interval == 0

    def redraw(self) -> UpdatePlan:
        """Draw the next plan."""
        self.plan = self._selector.draw()
        return self.plan

    def observe(self, norms: dict[str, np.ndarray], plan: UpdatePlan) -> None:
        """Tell the policy the gradient norms (k,) of the channels of ``plan``, by layer."""
        self._selector.observe(plan, norms)

    def figures(self) -> LedgerFigures:
        """Both ledgers of the present plan, and the worst case over all draws."""
        report, worst = self._selector.layout.report(self.plan), self._selector.worst_case
        return LedgerFigures(
            selection_elements=report.selection_elements,
            selection_bytes=report.selection_bytes,
            saved_bytes=report.saved_bytes,
            total_bytes=report.total_bytes,
            worst_selection_elements=worst.selection_elements,
            worst_total_bytes=worst.total_bytes,
        )

    def survey_figures(self) -> SurveyFigures | None:
        """What an oracle's pass costs, none made so far; None for all other policies."""
        report = self._selector.survey
        return None if report is None else SurveyFigures(0, 0, report.total_bytes, report.saved_bytes)

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs besides the plan, as plain JSON data."""
        return self._selector.state()

    def restore(self, plan: UpdatePlan, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises RunError if it does not belong to this budget."""
        self._selector.load_state(state)
        self.plan = plan
