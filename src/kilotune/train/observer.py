"""What a policy is told between its draws: one observer for each kind of observation."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch

from kilotune.errors import DataError
from kilotune.graph.layers import Side
from kilotune.ops.prepare import Step
from kilotune.policies.base import Observation
from kilotune.policies.velocity import Watch
from kilotune.train.feed import Feed
from kilotune.train.observe import StepMean
from kilotune.train.recipe import Recipe
from kilotune.train.selection import Selection
from kilotune.train.similarity import Similarity
from kilotune.train.stepping import Batch
from kilotune.train.survey import fisher, survey_norms
from kilotune.update_plan import UpdatePlan


class Observer:
    """Tells the policy behind ``selection`` nothing about what ``step`` trains. The others override what they need."""

    def __init__(self, step: Step, selection: Selection):
        self.step = step
        self.selection = selection

    def begin(self, feed: Feed) -> None:
        """Get ready, before the first epoch of ``FineTuner.fit``."""

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

    def begin(self, feed: Feed) -> None:
        """Get ready, before the first epoch of ``FineTuner.fit``."""

    def before_draw(self, feed: Feed, epoch: int, recipe: Recipe, device: torch.device) -> int:
        """Go through the epoch to come once without training, if the draw will use it."""
        if not self.selection.wants_survey:
            return 0
        plan = self.selection.all_units
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


class SimilarityObserver(Observer):
    """Tells how similar the values of units are to those at the look before."""

    def __init__(self, step: Step, selection: Selection):
        super().__init__(step, selection)
        self._similarity: Similarity | None = None
        self._trained = False

    def begin(self, feed: Feed) -> None:
        """Look at the network as it is.

        A run that goes on from a checkpoint sees the same as the run that wrote it. Raises DataError for too few images.
        """
        policy = self.selection.policy
        assert isinstance(policy, Watch)  # The others do not observe similarities.
        images = _first_images(feed, policy)
        side: Side = "output" if policy.axis == "out" else "input"
        self._similarity = Similarity(self.step.graph, self.selection.pool, side, images, policy.sketch)
        self._similarity.look(self.step)

    def after_gradient(self) -> None:
        """Something will have changed at the next look."""
        self._trained = True

    def after_training(self) -> None:
        """Look again, if anything was trained since the last look."""
        if self._trained and self._similarity is not None:
            self.selection.observe(self._similarity.look(self.step), self.selection.all_units)
        self._trained = False


def _first_images(feed: Feed, policy: Watch) -> torch.Tensor:
    """The first images of the training data as its first epoch gives them."""
    found: list[torch.Tensor] = []
    for images, _ in feed.batches(0):
        found.append(images)
        if sum(map(len, found)) >= policy.images:
            return torch.cat(found)[: policy.images]
    raise DataError(
        f"policy {policy.name} looks at {policy.images} images after each epoch, the training data has "
        f"{sum(map(len, found))}; say images={max(1, sum(map(len, found)))}"
    )


OBSERVERS: dict[Observation, type[Observer]] = {
    "nothing": Observer,
    "norms": NormObserver,
    "survey": SurveyObserver,
    "fisher": FisherObserver,
    "outputs": SimilarityObserver,
    "inputs": SimilarityObserver,
}
