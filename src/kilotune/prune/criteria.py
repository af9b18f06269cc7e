"""How important a channel is: the criteria of the torch-pruning library, in one table."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from kilotune.errors import PruneError


def torch_pruning() -> ModuleType:
    """The library. Raises PruneError, naming the extra, where it is not installed."""
    try:
        return import_module("torch_pruning")
    except ImportError as error:
        raise PruneError(
            "pruning needs the library torch-pruning; install it with: pip install kilotune[prune]"
        ) from error


class Criterion(NamedTuple):
    """build: importance of a group's channels, from the library; needs_loss: whether it reads gradients of a loss."""

    build: Callable[[Any], Any]
    needs_loss: bool = False


# magnitude: L2 norm of the weights of a channel, mean over its group (Li et al. 2017; Fang et al. 2023, section 3.3).
# l1: the same with the L1 norm. taylor: |weight x gradient| (Molchanov et al. 2019). lamp: magnitude relative to the larger
# ones of the layer (Lee et al. 2021). random: the control.
CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(lambda library: library.importance.GroupMagnitudeImportance(p=2)),
    "l1": Criterion(lambda library: library.importance.GroupMagnitudeImportance(p=1)),
    "taylor": Criterion(lambda library: library.importance.GroupTaylorImportance(), needs_loss=True),
    "lamp": Criterion(lambda library: library.importance.LAMPImportance(p=2)),
    "random": Criterion(lambda library: library.importance.RandomImportance()),
}
