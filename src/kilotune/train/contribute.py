"""Measuring contributions: what each part of a network gains when it is trained beside the classifier."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from math import floor
from typing import Any

import numpy as np
import torch

from kilotune.data.images import Split
from kilotune.errors import PlanError, TrainingError
from kilotune.graph.capture import capture
from kilotune.ops.prepare import Step, prepare
from kilotune.policies.base import Task
from kilotune.policies.contributions import RATIOS, Contributions, Score, bias_part, weight_part
from kilotune.policies.fit import plan as make_plan
from kilotune.policies.ranking import fingerprint
from kilotune.policies.sparse_update import best_channels
from kilotune.train.feed import Feed
from kilotune.train.recipe import Recipe
from kilotune.train.schedule import Schedule
from kilotune.train.selection import UNLIMITED
from kilotune.train.stepping import Metrics, Stepper, evaluate, find_device
from kilotune.update_plan import UpdatePlan

N_BIAS_COUNTS = 12
"""Numbers of biases that are measured; the gain saturates, and in between it is taken to be linear."""
TRAINED_RATIOS = (1 / 4, 1.0)
"""Shares of a layer's channels whose gain is worth a training each; in between it is taken to be linear."""
Keep = Callable[[Contributions], Any]


def contribute(
    model: torch.nn.Module,
    example: torch.Tensor,
    train: Split,
    held_out: Split,
    score: Score = "loss",
    n_bias: int | None = None,
    ratios: tuple[float, ...] | None = None,
    known: Contributions | None = None,
    keep: Keep = lambda table: None,
    **fields: Any,
) -> Contributions:
    """The contributions of biases and of every layer's weights (Sparse Update, section 3.2).

    "loss" and "accuracy" fine-tune on ``train`` once for each part, as ``fields`` of ``Recipe`` say, and score on
    ``held_out``; "gradient" needs one training of the classifier and one pass over ``train``. n_bias: the biases of so many
    last layers are trained beside the weights, and the weights of those layers are tried; None: of all. ratios: those of
    ``RATIOS`` that are tried; None: ``TRAINED_RATIOS`` where each is a training, else all.
    known: the table of an earlier call that was broken off; what it has is not measured again. keep: is handed the table
    after every part. The model stays as it is. Raises PlanError where ``known`` is of another measurement.
    """
    recipe = Recipe.of(**{"input": list(example.shape[1:]), "epochs": 1, "warmup_epochs": 0, **fields})
    trials = _Trials(model, example, train, held_out, recipe)
    graph, names = trials.task.graph, trials.task.table.names
    count = len(names) if n_bias is None else min(n_bias, len(names))
    table = Contributions(graph.model, fingerprint(graph), names, score, count, recipe.to_json(), values={})
    if known is not None:
        _check_same(known, table)
        table = known
    measure = {"gradient": _gradients, "loss": _losses, "accuracy": _accuracies}[score]
    tried = ratios or (RATIOS if score == "gradient" else TRAINED_RATIOS)
    plans = {name: plan for name, plan in _parts(trials.task, count, tried).items() if name not in table.values}
    for name, value in measure(trials, plans):
        table = table.but({name: value})
        keep(table)
    return table


def _check_same(known: Contributions, ours: Contributions) -> None:
    for name in ("fingerprint", "score", "n_bias", "recipe"):
        theirs, wanted = getattr(known, name), getattr(ours, name)
        if theirs != wanted:
            raise PlanError(
                f"the contributions were measured with {name} {theirs}, asked for is {wanted}; measure into another file, or "
                "use the same options"
            )


def _parts(task: Task, n_bias: int, ratios: tuple[float, ...]) -> dict[str, UpdatePlan]:
    """Every part by name, with the plan that trains it and the classifier."""
    counts = sorted({round(n_bias * step / N_BIAS_COUNTS) for step in range(N_BIAS_COUNTS + 1)})
    parts = {bias_part(k): UpdatePlan(biases=task.last_biases(k)) for k in counts}
    table = task.table
    for row in range(len(table.names) - n_bias, len(table.names)):
        for ratio in ratios:
            if n_channels := floor(table.channels[row] * ratio):
                chosen = table.to_sets(best_channels(table, row, n_channels))
                parts[weight_part(row, ratio)] = UpdatePlan(chosen, task.last_biases(n_bias))
    return parts


class _Trials:
    """Short fine-tunings from the same weights on the same batches."""

    def __init__(self, model: torch.nn.Module, example: torch.Tensor, train: Split, held_out: Split, recipe: Recipe):
        self.recipe, self.device = recipe, find_device(recipe.device)
        self._model, self._example = deepcopy(model).to(self.device), example.to(self.device)
        self._base = deepcopy(self._model.state_dict())
        self._feed = Feed.training(train, recipe, self.device)
        self._test = Feed.evaluation(held_out, recipe, self.device)
        self.task = Task.of(capture(self._model, self._example))

    def prepared(self, plan: UpdatePlan) -> Step:
        """The network with its present weights, ready to train ``plan``."""
        dtype = getattr(torch, self.recipe.precision)
        return prepare(self._model, self._example, plan, self.task.graph, dtype, self.recipe.channels_last).train()

    def tuned(self, plan: UpdatePlan) -> Step:
        """Trained from the base weights on, with the same draws of dropout each time."""
        self._model.load_state_dict(self._base)
        step = self.prepared(plan)
        stepper, schedule = (
            Stepper(step, self.recipe, self.device),
            Schedule.of(self.recipe, self._feed.steps_per_epoch),
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            every = (batches for epoch in range(self.recipe.epochs) for batches in self._feed.steps(epoch))
            for index, batches in enumerate(every):
                stepper.gradient(batches)
                stepper.update(schedule.rate(index))
        return step

    def score(self, plan: UpdatePlan) -> Metrics:
        """On the held-out images, after training."""
        return evaluate(self.tuned(plan), self._test.batches(0))

    def gradients(self, plan: UpdatePlan) -> dict[str, torch.Tensor]:
        """Mean gradient of every live parameter over one epoch, by name; no weight changes."""
        step = self.prepared(plan)
        stepper = Stepper(step, self.recipe, self.device)
        sums = {name: torch.zeros_like(parameter) for name, parameter in step.live.items()}
        for batches in self._feed.steps(0):
            stepper.gradient(batches)
            for name, parameter in step.live.items():
                assert parameter.grad is not None  # The plan trains it.
                sums[name] += parameter.grad
        return {name: total / self._feed.steps_per_epoch for name, total in sums.items()}


def _losses(trials: _Trials, plans: dict[str, UpdatePlan]) -> Iterator[tuple[str, float]]:
    for name, plan in plans.items():
        yield name, -_finite(trials.score(plan).loss, name)


def _accuracies(trials: _Trials, plans: dict[str, UpdatePlan]) -> Iterator[tuple[str, float]]:
    for name, plan in plans.items():
        yield name, trials.score(plan).accuracy


def _gradients(trials: _Trials, plans: dict[str, UpdatePlan]) -> Iterator[tuple[str, float]]:
    """The loss falls by ``lr * |g|^2`` to first order; |g|^2 adds up over channels and biases."""
    if not plans:
        return
    task = trials.task
    trials.tuned(UpdatePlan()).sync()
    gradients = trials.gradients(make_plan(task.graph, "full", UNLIMITED))
    squares = {
        name: gradient.square().reshape(len(gradient), -1).sum(1).cpu().numpy() for name, gradient in gradients.items()
    }
    for name, plan in plans.items():
        weights = sum(float(squares[f"{one.layer}.weight"][list(one.indices)].sum()) for one in plan.channels)
        biases = sum(float(squares[f"{layer}.bias"].sum()) for layer in plan.biases)
        yield name, _finite(weights + biases, name)


def _finite(value: float, part: str) -> float:
    if not np.isfinite(value):
        raise TrainingError(f"the score of part {part!r} is {value}; lower the learning rate")
    return value
