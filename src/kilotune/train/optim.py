"""Optimisers by name; what each keeps per trained number is in ``memory.accounting.OPTIMIZER_SLOTS``."""

from collections.abc import Callable, Iterable
from functools import partial

import torch

from kilotune.errors import RunError
from kilotune.train.recipe import Recipe

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def make_optimizer(parameters: Iterable[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the live parameters. Raises RunError as ``ledger_name`` does."""
    ledger_name(recipe)
    momentum = {"momentum": recipe.momentum} if recipe.momentum else {}
    build = OPTIMIZERS[recipe.optimizer]
    return build(list(parameters), lr=recipe.lr, weight_decay=recipe.weight_decay, **momentum)


def ledger_name(recipe: Recipe) -> str:
    """The key of ``OPTIMIZER_SLOTS`` for this optimiser.

    Raises RunError for an unknown name, or a momentum that it cannot use.
    """
    if recipe.optimizer not in OPTIMIZERS:
        raise RunError(f"optimizer {recipe.optimizer!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    if recipe.momentum and recipe.optimizer not in ("sgd", "momentum"):
        raise RunError(
            f"momentum {recipe.momentum} was asked for, but {recipe.optimizer} takes none; use sgd, or momentum 0"
        )
    return "momentum" if recipe.momentum else recipe.optimizer
