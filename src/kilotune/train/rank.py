"""Measuring layer rankings: RGN and LaRa from a short fine-tuning of everything."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from kilotune.errors import TrainingError
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory.cost import ChannelTable
from kilotune.ops.prepare import Step, prepare
from kilotune.policies.ranking import Ranking, fingerprint, layer_lara, layer_rgn
from kilotune.train.feed import Feed, Source
from kilotune.train.observe import StepMean, row_norms
from kilotune.train.recipe import Recipe
from kilotune.train.schedule import Schedule
from kilotune.train.stepping import Stepper, find_device
from kilotune.update_plan import UpdatePlan


def rank(
    model: torch.nn.Module, example: torch.Tensor, train: Source, task: str, epochs: int = 3, **fields: Any
) -> Ranking:
    """RGN (TraDy, Eq. 8) and LaRa (MeDyate, Eq. 9) of each layer, added up over ``epochs`` of training everything.

    The gradient behind each epoch's norms is its mean over the epoch's steps; neither paper says which one they took.
    example: (n, c, h, w); task: name of what it is trained on; fields: of ``Recipe``. The model stays as it is.
    Raises TrainingError if a gradient is not finite.
    """
    recipe = Recipe.of(**{"input": list(example.shape[1:]), **fields, "policy": "full", "epochs": epochs})
    device = find_device(recipe.device)
    model, example = deepcopy(model).to(device), example.to(device)
    graph = capture(model, example)
    table = ChannelTable.of(graph)
    step = prepare(model, example, _everything(graph), graph, getattr(torch, recipe.precision), recipe.channels_last)
    stepper, feed = Stepper(step, recipe, device), Feed.training(train, recipe, device)
    rgn, lara = np.zeros(len(table.names)), np.zeros(len(table.names))
    schedule = Schedule.of(recipe, feed.steps_per_epoch)
    step.train()
    for epoch in range(epochs):
        norms = _epoch_norms(step, stepper, feed, schedule, epoch)
        rgn += layer_rgn(table, norms)
        lara += layer_lara(table, norms)
    return Ranking(
        network=graph.model,
        fingerprint=fingerprint(graph),
        layers=table.names,
        rgn=tuple(rgn.tolist()),
        lara=tuple(lara.tolist()),
        task=task,
        epochs=epochs,
        provenance={
            "source": "full fine-tuning, mean gradient of each epoch",
            "recipe": recipe.to_json(),
        },
    )


def _everything(graph: Graph) -> UpdatePlan:
    sets = tuple(layer.whole() for layer in graph.body)
    return UpdatePlan(sets, biases=tuple(layer.name for layer in graph.body if layer.has_bias))


def _epoch_norms(step: Step, stepper: Stepper, feed: Feed, schedule: Schedule, epoch: int) -> np.ndarray:
    """Train one epoch; the L2 norm of the mean gradient of each channel (n_channels,)."""
    mean = StepMean()
    for index, micro_batches in enumerate(feed.steps(epoch)):
        stepper.gradient(micro_batches)
        mean.add(step.gradients())
        stepper.update(schedule.rate(epoch * feed.steps_per_epoch + index))
    norms = row_norms(mean.mean())
    if not norms:
        raise TrainingError(f"no gradient of epoch {epoch + 1} is finite; lower the learning rate")
    return np.concatenate([norms[layer.name] for layer in step.graph.body]).astype(np.float64)
