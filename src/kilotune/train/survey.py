"""A policy's own pass over the training data, while no weight changes: the full gradient, or the Fisher information."""

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


def fisher(
    step: Step, plan: UpdatePlan, recipe: Recipe, device: torch.device, steps: Iterable[list[Batch]]
) -> tuple[dict[str, np.ndarray], int]:
    """Fisher information (k,) of each input channel of ``plan``, by layer, and how many steps' worth of images it took.

    ``1 / (2 N) sum_n (sum_hw a[n, c] g[n, c])^2`` over N images (TinyTrain, Eq. 2): a is the input of the layer, g the part
    of its gradient that comes through the layer, so that the inner sum is that of weights times their gradient, image by
    image. Raises TrainingError if no gradient is finite.
    """
    beside = step.beside(plan).train()
    stepper, mean, n_steps = Stepper(beside, recipe, device), StepMean(), 0
    weights = {chosen.layer: beside.live[f"{chosen.layer}.weight"].detach() for chosen in plan.channels}
    for micro_batches in steps:
        for image in ((x[i : i + 1], y[i : i + 1]) for x, y in micro_batches for i in range(len(y))):
            stepper.gradient([image])
            gradients = beside.gradients()
            mean.add({name: (weights[name] * gradient).flatten(1).sum(1) ** 2 for name, gradient in gradients.items()})
            stepper.leave()
        n_steps += 1
    information = mean.mean()
    if not information:
        raise TrainingError("no gradient of the Fisher pass is finite; the weights of the network are damaged")
    return {name: values / 2 for name, values in information.items()}, n_steps
