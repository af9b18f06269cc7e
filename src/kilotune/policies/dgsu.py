"""Dynamic Gradient Sparse Update (arXiv 2503.17959): a few channels of every late layer, other ones at each step.

The paper's body is not public; its abstract fixes: channels change from step to step so that over time all are visited,
front layers are frozen, later layers get smaller ratios. Everything else is our choice and named as a field below.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import Bound, Policy, Redraw, State, Task
from kilotune.policies.order import shuffled
from kilotune.rng import Pcg32
from kilotune.update_plan import ChannelSet


@dataclass(frozen=True)
class Dgsu(Policy):
    """Input channels of the late layers, a fixed number of each, changed at every step.

    Size: weights updated per step in thousandths of all weights but the classifier's (the paper updates 2 %, size 20);
    a little more is drawn, as each layer contributes whole channels and at least one.

    frozen: share of the layers, from the input, that is never trained; the default leaves MobileNetV2's layers from the
    96-channel stage on. n_stages: the layers behind are cut into this many runs of equal length. decay: ratio of a
    stage's share of channels to that of the stage before. traversal: "cyclic" walks each layer's channels in a random
    order round and round, so that all are trained equally often; "independent" draws them anew.
    biases: those of this many last layers are trained besides, at every step.
    """

    name: ClassVar[str] = "dgsu"
    redraw: ClassVar[Redraw] = "step"
    frozen: Annotated[float, Meta(ge=0, lt=1)] = 30 / 52
    n_stages: Annotated[int, Meta(ge=1)] = 4
    decay: Annotated[float, Meta(gt=0, le=1)] = 0.5
    traversal: Literal["cyclic", "independent"] = "cyclic"
    biases: Annotated[int, Meta(ge=0)] = 0

    def sizes(self, task: Task) -> range:
        """Up to the size at which the first trained stage is trained whole; empty where there is no layer."""
        table = task.table
        if not table.names:
            return range(0)
        weights = table.weight * table.channels
        most = int(1000 * (self._relative(table) @ weights) / weights.sum())
        return range(1, max(1, most) + 1)

    def bound(self, task: Task, size: int) -> Bound:
        """Exactly what every draw takes."""
        counts = self._counts(task.table, size)
        state = int(task.table.channels[counts > 0].sum()) if self.traversal == "cyclic" else 0
        elements = task.table.total(counts)
        return Bound(tuple(counts.tolist()), elements, task.last_biases(self.biases), state_elements=state)

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """The next channels of each trained layer."""
        table, counts = task.table, self._counts(task.table, size)
        take = {"cyclic": self._next, "independent": self._anew}[self.traversal]
        state.draws += 1
        chosen = [take(table.ids(row), row, int(counts[row]), state, rng) for row in np.flatnonzero(counts).tolist()]
        return table.to_sets(np.concatenate(chosen))

    def _relative(self, table: ChannelTable) -> np.ndarray:
        """Ratio of each row relative to the first trained stage (layers,)."""
        n_layers = len(table.names)
        n_frozen = min(round(self.frozen * n_layers), n_layers - 1)
        place = np.arange(n_layers) - n_frozen
        stage = place * self.n_stages // (n_layers - n_frozen)
        return np.where(place >= 0, self.decay ** np.maximum(stage, 0).astype(float), 0.0)

    def _counts(self, table: ChannelTable, size: int) -> np.ndarray:
        """Channels that each row contributes to every draw (layers,)."""
        relative, weights = self._relative(table), table.weight * table.channels
        ratio = np.minimum(1, relative * size * weights.sum() / (1000 * (relative @ weights)))
        return np.ceil(ratio * table.channels).astype(np.int64)

    @staticmethod
    def _next(ids: np.ndarray, row: int, count: int, state: State, rng: Pcg32) -> np.ndarray:
        if row not in state.order:
            state.order[row] = list(shuffled(ids, rng))
        start = state.cursor.get(row, 0)
        state.cursor[row] = (start + count) % len(ids)
        return np.array(state.order[row])[(start + np.arange(count)) % len(ids)]

    @staticmethod
    def _anew(ids: np.ndarray, row: int, count: int, state: State, rng: Pcg32) -> np.ndarray:
        return np.array(list(islice(shuffled(ids, rng), count)))
