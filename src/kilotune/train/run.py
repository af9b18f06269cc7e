"""Runs by name: start one from a recipe, go on with one, open a finished one."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from kilotune import models
from kilotune.data.images import Dataset
from kilotune.data.sets import load as load_data
from kilotune.errors import DataError, RunError
from kilotune.graph.capture import example_of
from kilotune.graph.node import Graph
from kilotune.ops.prepare import prepare
from kilotune.train.checkpoint import Checkpoint
from kilotune.train.feed import Feed
from kilotune.train.folder import RunFolder
from kilotune.train.loop import FineTuner
from kilotune.train.recipe import Backend, Recipe
from kilotune.train.record import Record, read_record
from kilotune.train.stepping import Metrics, evaluate, find_device
from kilotune.update_plan import UpdatePlan

logger = logging.getLogger(__name__)

Tuners = Mapping[Backend, type[FineTuner]]
TORCH: Tuners = {FineTuner.backend: FineTuner}


@dataclass(frozen=True)
class Run:
    """A run folder read back: its record, its folder, and the tuned model (of the last epoch, if it was broken off)."""

    record: Record
    folder: RunFolder
    model: torch.nn.Module

    @property
    def example(self) -> torch.Tensor:
        """An input of the run's shape, (1, c, h, w) or (1, t), zeros."""
        return _example(self.record.recipe)

    def evaluate(self, data: str) -> Metrics:
        """Accuracy and loss on the test split of a data set given by name, in the arithmetic of the training."""
        recipe = self.record.recipe
        device = find_device(recipe.device)
        dataset = load_data_of(recipe.but(data=data))
        model, example = self.model.to(device), self.example.to(device)
        nothing = UpdatePlan(classifier=False)
        dtype = getattr(torch, recipe.precision)
        step = prepare(model, example, nothing, dtype=dtype, channels_last=recipe.channels_last)
        _check_classes(step.graph, dataset)
        return evaluate(step, Feed.evaluation(dataset, recipe, device).batches(0))


def open_run(path: str | Path) -> Run:
    """The run in ``path``, with a warning if it was broken off.

    Raises RunError if it is not a run folder, or its model was a Python object.
    """
    folder = RunFolder(Path(path))
    record = read_record(folder.record)
    if record.status in ("stopped", "failed"):
        done, asked = len(record.epochs), record.recipe.epochs
        logger.warning("%s %s in epoch %d of %d: it is taken as it was before", path, record.status, done + 1, asked)
    name = _model_name(record.recipe, folder)
    if folder.weights.exists():
        return Run(record, folder, models.load(name, str(folder.weights)).model)
    model = models.load(name, str(folder.base)).model
    model.load_state_dict(Checkpoint.read(folder.checkpoint).weights)
    return Run(record, folder, model)


def finetune(
    recipe: Recipe,
    out: str | Path,
    quiet: bool = False,
    dataset: Dataset | None = None,
    tuners: Tuners = TORCH,
) -> Record:
    """Carry out a recipe that names its model and its data; see ``FineTuner.fit`` for what it raises and writes.

    dataset: the recipe's data, where it was read before. Input shape, mean and std that the recipe leaves open are those
    the weights were trained with. tuners: who carries it out, by the recipe's backend.
    """
    if recipe.model is None or recipe.data is None:
        raise RunError("the recipe must name a model and a data set; in Python, use FineTuner with your own objects")
    dataset = dataset or load_data_of(recipe)
    loaded = models.load(recipe.model, recipe.weights, dataset.n_classes, recipe.seed)
    shape, side = tuple(dataset.train.images.shape[1:]), loaded.resolution
    recipe = recipe.but(
        input=recipe.input or ((shape[0], side, side) if side and not dataset.train.is_text else shape),
        mean=recipe.mean or (loaded.mean,),
        std=recipe.std or (loaded.std,),
    )
    tuner = _tuner(loaded.model, recipe, tuners)
    _check_data(tuner.graph, dataset)
    return tuner.fit(dataset, dataset, out=out, quiet=quiet)


def resume(path: str | Path, quiet: bool = False, tuners: Tuners = TORCH) -> Record:
    """Go on with the run in ``path``, to the result it would have had without the break; raises as ``open_run``.

    tuners: as in ``finetune``.
    """
    folder = RunFolder(Path(path))
    recipe = Checkpoint.read(folder.checkpoint).record.recipe
    tuner = _tuner(models.load(_model_name(recipe, folder), str(folder.base)).model, recipe, tuners)
    tuner.resume(path)
    dataset = load_data_of(recipe)
    _check_data(tuner.graph, dataset)
    return tuner.fit(dataset, dataset, out=path, quiet=quiet)


def _tuner(model: torch.nn.Module, recipe: Recipe, tuners: Tuners) -> FineTuner:
    if recipe.backend not in tuners:
        raise RunError(f"backend {recipe.backend!r} is not among {', '.join(tuners)}; give its tuner in ``tuners``")
    return tuners[recipe.backend](model, _example(recipe), **msgspec.structs.asdict(recipe))


def _example(recipe: Recipe) -> torch.Tensor:
    assert recipe.input is not None  # The tuner has filled it in.
    return example_of(recipe.input)


def _check_classes(graph: Graph, dataset: Dataset) -> None:
    n_logits = graph.node[graph.output].output.shape[-1]
    if n_logits != dataset.n_classes:
        raise DataError(
            f"{dataset.name} has {dataset.n_classes} classes, the run is for {n_logits}; choose data of the same ones"
        )


def _check_data(graph: Graph, dataset: Dataset) -> None:
    """Raise DataError for data that the network does not take, of other classes, or with a token that it has no vector for."""
    if graph.input.is_float == dataset.train.is_text:
        asked, found = ("images", "texts") if graph.input.is_float else ("token ids", "images")
        raise DataError(
            f"{graph.model} was captured for {asked}, {dataset.name} has {found}; choose another --input or data"
        )
    channels = dataset.train.images.shape[1]
    if graph.input.is_float and channels != graph.input.shape[1]:
        raise DataError(
            f"{dataset.name} has images (c, h, w) with c = {channels}, {graph.model} was captured for "
            f"c = {graph.input.shape[1]}; choose another --input or data"
        )
    _check_classes(graph, dataset)
    for part, split in dataset.splits.items():
        highest = int(split.images.max())
        if graph.vocabulary is not None and highest >= graph.vocabulary:
            raise DataError(
                f"{dataset.name}: {part} has the token id {highest}, but {graph.model} knows the ids below "
                f"{graph.vocabulary}; use the tokenizer of the network"
            )


def _model_name(recipe: Recipe, folder: RunFolder) -> str:
    if recipe.model is None:
        raise RunError(
            f"{folder.path} was made from a model in Python; build it there, then FineTuner(...).resume(path)"
        )
    return recipe.model


def load_data_of(recipe: Recipe) -> Dataset:
    """The data set that the recipe names; images of a folder at the size of its input."""
    if recipe.data is None:
        raise RunError("the recipe does not name its data; in Python, give fit your own")
    size = max(recipe.input[1:], default=None) if recipe.input else None
    return load_data(recipe.data, size, recipe.seed, recipe.train_limit)
