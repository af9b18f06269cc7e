"""Sparse Update (arXiv 2206.15472): a fixed scheme of layers and ratios, found offline by a search."""

from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from kilotune.errors import PlanError
from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import Bound, Policy, State, Task
from kilotune.policies.found import FoundScheme
from kilotune.policies.order import descending
from kilotune.policies.published import find_network
from kilotune.policies.schemes import SCHEMES, Scheme
from kilotune.rng import Pcg32
from kilotune.update_plan import ChannelSet


@dataclass(frozen=True)
class SparseUpdate(Policy):
    """A fixed scheme: input channels of some layers, the last biases, the classifier.

    Size: index of the scheme, small to large. scheme: one of the published schemes of three networks, such as "49kb", or
    the .json file of one that `kilotune search` found for any network; None: the largest published one that fits.
    channels: inside a layer those with the largest weight norm (the paper), or the "first" ones (its code generator).
    """

    name: ClassVar[str] = "sparse_update"
    scheme: str | None = None
    channels: Literal["norm", "first"] = "norm"

    def sizes(self, task: Task) -> range:
        """Indices of the network's schemes. Raises PlanError if it has none, or none of the name asked for."""
        names = list(self._schemes(task))
        if self.scheme is None:
            return range(len(names))
        if self.scheme not in names:
            raise PlanError(
                f"{task.graph.model} has no Sparse Update scheme {self.scheme!r}; its schemes are {', '.join(names)}"
            )
        index = names.index(self.scheme)
        return range(index, index + 1)

    def runs(self, task: Task) -> list[range]:
        """Each scheme by itself: a larger one may have fewer biases."""
        return [range(size, size + 1) for size in self.sizes(task)]

    def bound(self, task: Task, size: int) -> Bound:
        """The scheme itself: there is nothing random in it."""
        return scheme_bound(task, *list(self._schemes(task).values())[size])

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """The scheme's channels, always the same."""
        table, caps = task.table, self.bound(task, size).caps
        state.draws += 1
        pick = {"norm": best_channels, "first": lambda table, row, n_channels: table.ids(row)[:n_channels]}[
            self.channels
        ]
        return table.to_sets(np.concatenate([pick(table, row, cap) for row, cap in enumerate(caps)]))

    def _schemes(self, task: Task) -> dict[str, tuple[Scheme, list[int]]]:
        """Schemes by name, each with the rows that it counts."""
        if self.scheme is not None and self.scheme.endswith(".json"):
            found = FoundScheme.load(Path(self.scheme))
            found.check(task.graph)
            return {self.scheme: (found.scheme, list(range(len(task.table.names))))}
        return {name: (scheme, _conv_rows(task)) for name, scheme in _published(task).items()}


def scheme_bound(task: Task, scheme: Scheme, rows: list[int]) -> Bound:
    """What ``scheme`` trains, its layers being counted along ``rows`` of the table."""
    caps = np.zeros_like(task.table.channels)
    for index, ratio in scheme.ratios.items():
        caps[rows[index]] = floor(task.table.channels[rows[index]] * ratio)
    layers = [task.graph.body[row] for row in rows[len(rows) - scheme.n_bias :]]
    biases = tuple(layer.name for layer in layers if layer.has_bias)
    return Bound(tuple(caps.tolist()), task.table.total(caps), biases)


def best_channels(table: ChannelTable, row: int, n_channels: int) -> np.ndarray:
    """Ids of the ``n_channels`` input channels of a layer with the largest weight norm."""
    return descending(table.ids(row), table.norms[table.ids(row)])[:n_channels]


def _published(task: Task) -> dict[str, Scheme]:
    network = find_network(task.graph)
    if network is None:
        raise PlanError(
            f"no Sparse Update scheme was published for {task.graph.model}; there are schemes for "
            f"{', '.join(SCHEMES)}; find one with `kilotune search`, or choose another policy, such as medyate"
        )
    return SCHEMES[network.schemes]


def _conv_rows(task: Task) -> list[int]:
    """Rows of the convolutions that schemes count: all of them, but for a feature-mix convolution at the end."""
    network = find_network(task.graph)
    rows = [row for row, layer in enumerate(task.graph.body) if layer.kind != "linear"]
    return rows[: network.n_scheme_convs] if network else rows
