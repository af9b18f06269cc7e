"""Output neurons under a budget; and the simplest way to choose them, at random."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kilotune.policies.base import Redraw, State, Task
from kilotune.policies.order import shuffled
from kilotune.policies.pool import PooledPolicy
from kilotune.rng import Pcg32
from kilotune.update_plan import Axis


@dataclass(frozen=True)
class NeuronPolicy(PooledPolicy):
    """A spending policy of output neurons. A layer that trains one of them keeps its whole input, so that the ledgers
    charge the input with the first neuron of a layer; only the ``parameters`` ledger does not see it."""

    axis: ClassVar[Axis] = "out"


@dataclass(frozen=True)
class RandomNeurons(NeuronPolicy):
    """Output neurons, uniformly, anew each time (the baseline "Random" of arXiv 2312.05282). Size: elements."""

    name: ClassVar[str] = "random_neurons"
    redraw: ClassVar[Redraw] = "epoch"

    def order(self, task: Task, ids: np.ndarray, state: State, rng: Pcg32) -> Iterable[int]:
        """Uniform."""
        return shuffled(ids, rng)
