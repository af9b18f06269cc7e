"""An oracle's pass over the training data: the full gradient of the layers it draws from, while no weight changes."""

from collections.abc import Iterable

import numpy as np
import torch

from kilotune.errors import TrainingError
from kilotune.ops.prepare import Step
from kilotune.train.observe import StepMean, row_norms
from kilotune.train.recipe import Recipe
from kilotune.train.stepping import Batch, Stepper
from kilotune.update_plan import UpdatePlan


def survey_norms(
    step: Step, plan: UpdatePlan, recipe: Recipe, device: torch.device, steps: Iterable[list[Batch]]
) -> tuple[dict[str, np.ndarray], int]:
    """L2 norm (k,) of the mean gradient over ``steps`` of each channel of ``plan``, by layer, and how many steps it took.

    ``step`` lends its model in its present state; neither is changed. Raises TrainingError if no gradient is finite.
    """
    beside = step.beside(plan).train()
    stepper, mean, n_steps = Stepper(beside, recipe, device), StepMean(), 0
    for micro_batches in steps:
        stepper.gradient(micro_batches)
        mean.add(beside.gradients())
        stepper.leave()
        n_steps += 1
    gradients = mean.mean()
    if not gradients:
        raise TrainingError("no gradient of the oracle's pass is finite; lower the learning rate")
    return row_norms(gradients), n_steps
