"""Sparse Update (arXiv 2206.15472): a fixed scheme of layers and ratios, found offline by the authors' search."""

from dataclasses import dataclass
from math import floor
from typing import ClassVar, Literal

import numpy as np

from kilotune.errors import PlanError
from kilotune.policies.base import Bound, Policy, State, Task
from kilotune.policies.order import descending
from kilotune.policies.published import find_network
from kilotune.policies.schemes import SCHEMES, Scheme
from kilotune.rng import Pcg32
from kilotune.update_plan import ChannelSet


@dataclass(frozen=True)
class SparseUpdate(Policy):
    """The published schemes of three networks: input channels of some convolutions, the last biases, the classifier.

    Size: index of the scheme, small to large. scheme: use this one only, such as "49kb".
    channels: inside a layer those with the largest weight norm (the paper), or the "first" ones (its code generator).
    """

    name: ClassVar[str] = "sparse_update"
    scheme: str | None = None
    channels: Literal["norm", "first"] = "norm"

    def sizes(self, task: Task) -> range:
        """Indices of the network's schemes. Raises PlanError if it has none, or none of the name asked for."""
        schemes, names = _schemes(task), list(_schemes(task))
        if self.scheme is None:
            return range(len(schemes))
        if self.scheme not in schemes:
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
        scheme = list(_schemes(task).values())[size]
        rows = _conv_rows(task)
        caps = np.zeros_like(task.table.channels)
        for index, ratio in scheme.ratios.items():
            caps[rows[index]] = floor(task.table.channels[rows[index]] * ratio)
        layers = [task.graph.body[row] for row in rows[-scheme.n_bias :]]
        biases = tuple(layer.name for layer in layers if layer.has_bias)
        return Bound(tuple(caps.tolist()), int(caps @ task.table.cost), biases)

    def draw(self, task: Task, size: int, state: State, rng: Pcg32) -> tuple[ChannelSet, ...]:
        """The scheme's channels, always the same."""
        table, caps = task.table, self.bound(task, size).caps
        state.draws += 1
        score = {"norm": table.norms, "first": np.zeros(table.n_channels)}[self.channels]
        chosen = [descending(table.ids(row), score[table.ids(row)])[:cap] for row, cap in enumerate(caps)]
        return table.to_sets(np.concatenate(chosen))


def _schemes(task: Task) -> dict[str, Scheme]:
    network = find_network(task.graph)
    if network is None:
        raise PlanError(
            f"no Sparse Update scheme was published for {task.graph.model}; there are schemes for "
            f"{', '.join(SCHEMES)}; choose another policy, such as medyate"
        )
    return SCHEMES[network.schemes]


def _conv_rows(task: Task) -> list[int]:
    """Rows of the convolutions that schemes count: all of them, but for a feature-mix convolution at the end."""
    network = find_network(task.graph)
    rows = [row for row, layer in enumerate(task.graph.body) if layer.kind != "linear"]
    return rows[: network.n_scheme_convs] if network else rows
