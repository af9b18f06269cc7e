"""Whatever the user gives as data, as batches on the training device."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from kilotune.data.augment import Augment
from kilotune.data.batches import Batches
from kilotune.data.images import Dataset, Split
from kilotune.errors import DataError
from kilotune.train.recipe import Recipe
from kilotune.train.stepping import Batch

Source = Dataset | Split | Iterable[Any]
EVALUATION_BATCH = 128
_HALF = (0.5,)
_IMAGE_AXES = 3


class Feed:
    """Batches (images float32 (n, c, h, w) or token ids (n, t), labels int64 (n,)), epoch by epoch."""

    def __init__(self, source: Batches | Iterable[Any], recipe: Recipe, device: torch.device):
        self._source = source
        self._augment = _augment(recipe)
        self._accumulate = recipe.accumulate
        self._device = device

    @classmethod
    def training(cls, source: Source, recipe: Recipe, device: torch.device) -> "Feed":
        """Shuffled and augmented where ``source`` is a data set (its training split) or a split; else as it comes."""
        split = source.train if isinstance(source, Dataset) else source
        if not isinstance(split, Split):
            return cls(split, recipe, device)
        limited = split.take(recipe.train_limit, recipe.seed) if recipe.train_limit else split
        return cls(Batches(limited, recipe.batch_size, _augment(recipe), device, recipe.seed), recipe, device)

    @classmethod
    def evaluation(cls, source: Source, recipe: Recipe, device: torch.device) -> "Feed":
        """In order and not augmented where ``source`` is a data set (its test split) or a split; else as it comes."""
        split = source.test if isinstance(source, Dataset) else source
        if not isinstance(split, Split):
            return cls(split, recipe, device)
        limited = split.take(recipe.eval_limit, recipe.seed) if recipe.eval_limit else split
        return cls(Batches(limited, EVALUATION_BATCH, _augment(recipe), device, shuffle=False), recipe, device)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch. Raises DataError where the number of batches is not known, or 0."""
        try:
            n_batches = len(self._source)  # type: ignore[arg-type]
        except TypeError as error:
            raise DataError(
                f"the training data ({type(self._source).__name__}) does not know its number of batches, and the "
                "learning-rate schedule needs it; give a list, a DataLoader of known length, or a kilotune data set"
            ) from error
        if not n_batches:
            raise DataError("the training data has no batch; check the batch size and the filters")
        return -(-n_batches // self._accumulate)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of epoch ``epoch``."""
        for x, y in self._source.epoch(epoch) if isinstance(self._source, Batches) else self._source:
            x, y = torch.as_tensor(x).to(self._device), torch.as_tensor(y).to(self._device)
            yield (self._augment.evaluate(x) if self._augment and x.dtype == torch.uint8 else x), y.long()

    def steps(self, epoch: int) -> Iterator[list[Batch]]:
        """All batches of the epoch, as many together as one optimiser step accumulates.

        Raises DataError if the source has run dry, as a generator does after its first epoch.
        """
        batches = self.batches(epoch)
        for done in range(self.steps_per_epoch):
            together = list(islice(batches, self._accumulate))
            if not together:
                raise DataError(
                    f"epoch {epoch + 1} of the training data ended after {done} of {self.steps_per_epoch} steps; give "
                    "something that starts anew each time it is gone through (a list or DataLoader, not a generator)"
                )
            yield together


def _augment(recipe: Recipe) -> Augment | None:
    """How images become the input; what is not an image comes as it is."""
    assert recipe.input is not None  # The tuner has filled it in from the example.
    if len(recipe.input) != _IMAGE_AXES:
        return None
    _, height, width = recipe.input
    return Augment((height, width), recipe.augment, recipe.mean or _HALF, recipe.std or _HALF)
