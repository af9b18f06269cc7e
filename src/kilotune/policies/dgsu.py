"""Dynamic Gradient Sparse Update (arXiv 2503.17959): a few channels of every late layer, other ones at each step.

The paper's body is not public; its abstract fixes: channels change from step to step so that over time all are visited,
front layers are frozen, later layers get smaller ratios. Everything else is our choice and named as a field below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from math import gcd
from typing import Annotated, ClassVar, Literal, NamedTuple

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
    stage's share of channels to that of the stage before. turns: each draw trains one layer in so many, the next draw
    the next ones, with so many times as many channels; one channel of every layer may already be too much for a small
    budget. traversal: a key of ``TRAVERSALS``. biases: those of this many last layers are trained besides, at every step.
    """

    name: ClassVar[str] = "dgsu"
    redraw: ClassVar[Redraw] = "step"
    frozen: Annotated[float, Meta(ge=0, lt=1)] = 30 / 52
    n_stages: Annotated[int, Meta(ge=1)] = 4
    decay: Annotated[float, Meta(gt=0, le=1)] = 0.5
    turns: Annotated[int, Meta(ge=1)] = 1
    traversal: Literal["cyclic", "strided", "independent", "largest"] = "cyclic"
    biases: Annotated[int, Meta(ge=0)] = 0

    def sizes(self, task: Task) -> range:
        """Up to the size at which the first trained stage is trained whole; empty where there is no layer."""
        table = task.table
        if not table.names:
            return range(0)
        weights = table.weight * table.channels
        most = int(1000 * (self._relative(table) @ weights) / (weights.sum() * self.turns))
        return range(1, max(1, most) + 1)

    def bound(self, task: Task, size: int) -> Bound:
        """Exactly what the fullest turn takes."""
        table, counts = task.table, self._counts(task.table, size)
        state = int(TRAVERSALS[self.traversal].state(table.channels[counts > 0]))
        elements = max(
            table.total(np.where(np.isin(np.arange(len(counts)), rows), counts, 0))
            for rows in self.rows_of_turns(table)
        )
        return Bound(tuple(counts.tolist()), elements, task.last_biases(self.biases), state_elements=state)

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """The next channels of each layer whose turn it is."""
        table, counts = task.table, self._counts(task.table, size)
        rows = self.rows_of_turns(table)[state.draws % self.turns]
        state.draws += 1
        take = TRAVERSALS[self.traversal].take
        return table.to_sets(np.concatenate([take(table, row, int(counts[row]), state, rng) for row in rows]))

    def rows_of_turns(self, table: ChannelTable) -> list[list[int]]:
        """Trained rows of each turn; a turn without any takes those of the first."""
        trained = np.flatnonzero(self._relative(table)).tolist()
        return [trained[turn :: self.turns] or trained[:: self.turns] for turn in range(self.turns)]

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
        ratio = np.minimum(1, relative * self.turns * size * weights.sum() / (1000 * (relative @ weights)))
        return np.ceil(ratio * table.channels).astype(np.int64)


def cyclic(table: ChannelTable, row: int, count: int, state: State, rng: Pcg32) -> np.ndarray:
    """The next channels on a walk through a random order that is kept."""
    ids = table.ids(row)
    if row not in state.order:
        state.order[row] = list(shuffled(ids, rng))
    return np.array(state.order[row])[_walk(len(ids), row, count, state)]


def strided(table: ChannelTable, row: int, count: int, state: State, rng: Pcg32) -> np.ndarray:
    """The next channels on a walk in steps of a random length that comes by all of them: a stride prime to their number."""
    ids = table.ids(row)
    if row not in state.order:
        state.order[row] = [
            next(int(step) for step in shuffled(np.arange(1, len(ids) + 1), rng) if gcd(step, len(ids)) == 1)
        ]
    return ids[_walk(len(ids), row, count, state) * state.order[row][0] % len(ids)]


def independent(table: ChannelTable, row: int, count: int, state: State, rng: Pcg32) -> np.ndarray:
    """Channels drawn anew."""
    return np.array(list(islice(shuffled(table.ids(row), rng), count)))


def largest(table: ChannelTable, row: int, count: int, state: State, rng: Pcg32) -> np.ndarray:
    """The channels whose pretrained weights have the largest norm, always the same: the fixed counterpart."""
    ids = table.ids(row)
    return ids[np.argsort(-table.norms[ids], kind="stable")[:count]]


def _walk(n_channels: int, row: int, count: int, state: State) -> np.ndarray:
    """The next ``count`` places of a walk round and round."""
    start = state.cursor.get(row, 0)
    state.cursor[row] = (start + count) % n_channels
    return (start + np.arange(count)) % n_channels


class Traversal(NamedTuple):
    """take: the channels of one row in a draw. state: numbers kept for trained rows of so many channels each."""

    take: Callable[[ChannelTable, int, int, State, Pcg32], np.ndarray]
    state: Callable[[np.ndarray], int]


TRAVERSALS = {
    "cyclic": Traversal(cyclic, lambda channels: channels.sum()),
    "strided": Traversal(strided, lambda channels: 2 * len(channels)),
    "independent": Traversal(independent, lambda channels: 0),
    "largest": Traversal(largest, lambda channels: 0),
}
