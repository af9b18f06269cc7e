"""Measuring layer rankings: RGN and LaRa from a short fine-tuning of everything."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from kilotune.errors import TrainingError
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory.cost import ChannelTable
from kilotune.ops.prepare import prepare
from kilotune.policies.ranking import Ranking, fingerprint, layer_lara, layer_rgn
from kilotune.train.feed import Feed, Source
from kilotune.train.recipe import Recipe
from kilotune.train.schedule import Schedule
from kilotune.train.stepping import Stepper, find_device
from kilotune.update_plan import ChannelSet, UpdatePlan


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
    live = [step.live[f"{name}.weight"] for name in table.names]
    schedule = Schedule.of(recipe, feed.steps_per_epoch)
    step.train()
    for epoch in range(epochs):
        norms = _epoch_norms(stepper, live, feed, schedule, epoch)
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
    sets = tuple(ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in graph.body)
    return UpdatePlan(sets, biases=tuple(layer.name for layer in graph.body if layer.has_bias))


def _epoch_norms(
    stepper: Stepper, live: list[torch.nn.Parameter], feed: Feed, schedule: Schedule, epoch: int
) -> np.ndarray:
    """Train one epoch; the L2 norm of the mean gradient of each channel of ``live`` (n_channels,)."""
    sums = [torch.zeros_like(weight) for weight in live]
    for index, micro_batches in enumerate(feed.steps(epoch)):
        stepper.gradient(micro_batches)
        for total, weight in zip(sums, live, strict=True):
            assert weight.grad is not None  # The plan trains all of them.
            total += weight.grad
        stepper.update(schedule.rate(epoch * feed.steps_per_epoch + index))
    norms = torch.cat([total.flatten(1).norm(dim=1) for total in sums]).double().cpu().numpy() / feed.steps_per_epoch
    if not np.isfinite(norms).all():
        raise TrainingError(f"a gradient of epoch {epoch + 1} is not finite; lower the learning rate")
    return norms
