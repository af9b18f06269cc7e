"""What it costs to train one input channel, layer by layer: the table that policies spend from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kilotune.errors import PlanError
from kilotune.graph.node import Graph
from kilotune.update_plan import ChannelSet


@dataclass(frozen=True)
class ChannelTable:
    """One row per layer in forward order, the classifier left out. Channel ids count through all rows: 0 .. n_channels-1.

    names: (layers,); channels: input channels C of each layer; weight: C_W and activation: C_A elements of one
    channel (TraDy, section 3.1: C_W = C' D^2 / groups, C_A = H W); norms: L2 norm of each channel's weights (n_channels,).
    """

    names: tuple[str, ...]
    channels: np.ndarray
    weight: np.ndarray
    activation: np.ndarray
    norms: np.ndarray

    @classmethod
    def of(cls, graph: Graph) -> "ChannelTable":
        """The table of a captured network."""
        body = graph.body
        return cls(
            tuple(layer.name for layer in body),
            np.array([layer.in_channels for layer in body], dtype=np.int64),
            np.array([layer.channel_weight_elements for layer in body], dtype=np.int64),
            np.array([layer.channel_input_elements for layer in body], dtype=np.int64),
            np.array([norm for layer in body for norm in layer.input_norms], dtype=np.float64),
        )

    @property
    def cost(self) -> np.ndarray:
        """C_W + C_A of one channel of each layer (layers,), elements."""
        return self.weight + self.activation

    @property
    def n_channels(self) -> int:
        """Channels of all layers together."""
        return int(self.channels.sum())

    @cached_property
    def first(self) -> np.ndarray:
        """Id of each layer's first channel (layers,)."""
        return np.cumsum(self.channels) - self.channels

    @cached_property
    def layer_of(self) -> np.ndarray:
        """Row of each channel id (n_channels,)."""
        return np.repeat(np.arange(len(self.names)), self.channels)

    @cached_property
    def channel_cost(self) -> np.ndarray:
        """Cost of each channel id (n_channels,), elements."""
        return self.cost[self.layer_of]

    def ids(self, row: int) -> np.ndarray:
        """Channel ids of one layer."""
        return np.arange(self.first[row], self.first[row] + self.channels[row])

    def row(self, name: str) -> int:
        """Row of the layer called ``name``. Raises PlanError if there is none."""
        if name not in self.names:
            raise PlanError(f"there is no layer {name!r} to select from; the layers are {', '.join(self.names)}")
        return self.names.index(name)

    def to_sets(self, ids: np.ndarray) -> tuple[ChannelSet, ...]:
        """Channel ids in any order as the plan's input-channel sets, in forward order."""
        ids = np.sort(ids)
        rows = self.layer_of[ids]
        return tuple(
            ChannelSet(self.names[row], "in", tuple((ids[rows == row] - self.first[row]).tolist()))
            for row in np.unique(rows)
        )

    def to_ids(self, sets: tuple[ChannelSet, ...]) -> np.ndarray:
        """The inverse of ``to_sets``."""
        parts = [self.first[self.row(chosen.layer)] + np.array(chosen.indices) for chosen in sets]
        return np.concatenate(parts) if parts else np.array([], dtype=np.int64)
