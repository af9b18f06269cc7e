"""What a policy is told between its draws: one observer for each kind of observation."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch

from kilotune.ops.prepare import Step
from kilotune.policies.base import Observation
from kilotune.train.feed import Feed
from kilotune.train.observe import StepMean
from kilotune.train.recipe import Recipe
from kilotune.train.selection import Selection
from kilotune.train.stepping import Batch
from kilotune.train.survey import fisher, survey_norms
from kilotune.update_plan import UpdatePlan


class Observer:
    """Tells the policy behind ``selection`` nothing about what ``step`` trains. The others override what they need."""

    def __init__(self, step: Step, selection: Selection):
        self.step = step
        self.selection = selection

    def before_draw(self, feed: Feed, epoch: int, recipe: Recipe, device: torch.device) -> int:
        """Make the pass that the draw needs; how many steps it took."""
        return 0

    def after_gradient(self) -> None:
        """Look at the gradients that the optimiser is about to use."""

    def after_training(self) -> None:
        """Tell what was seen since the last draw; at the end of an epoch, and before a draw."""


class NormObserver(Observer):
    """Tells the mean gradient norms of the channels just trained."""

    def __init__(self, step: Step, selection: Selection):
        super().__init__(step, selection)
        self._norms = StepMean()

    def after_gradient(self) -> None:
        """Take in the norms of this step."""
        self._norms.add(self.step.channel_norms())

    def after_training(self) -> None:
        """Hand over their means."""
        norms, self._norms = self._norms.mean(), StepMean()
        if norms:
            self.selection.observe(norms, self.selection.plan)


class SurveyObserver(Observer):
    """Tells an oracle the norms of the full gradient."""

    def before_draw(self, feed: Feed, epoch: int, recipe: Recipe, device: torch.device) -> int:
        """Go through the epoch to come once without training, if the draw will use it."""
        if not self.selection.wants_survey:
            return 0
        plan = self.selection.survey_plan
        steps = islice(feed.steps(epoch), self.selection.survey_steps)
        values, n_steps = self._look(plan, recipe, device, steps)
        self.selection.observe(values, plan)
        return n_steps

    def _look(
        self, plan: UpdatePlan, recipe: Recipe, device: torch.device, steps: Iterable[list[Batch]]
    ) -> tuple[dict[str, np.ndarray], int]:
        return survey_norms(self.step, plan, recipe, device, steps)


class FisherObserver(SurveyObserver):
    """Tells the Fisher information of every channel."""

    def _look(
        self, plan: UpdatePlan, recipe: Recipe, device: torch.device, steps: Iterable[list[Batch]]
    ) -> tuple[dict[str, np.ndarray], int]:
        return fisher(self.step, plan, recipe, device, steps)


OBSERVERS: dict[Observation, type[Observer]] = {
    "nothing": Observer,
    "norms": NormObserver,
    "survey": SurveyObserver,
    "fisher": FisherObserver,
}
