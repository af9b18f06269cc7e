"""What it costs to train one unit of a layer, an input channel or an output neuron: the table that policies spend from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from kilotune.errors import PlanError
from kilotune.graph.keeping import modes_of, ways_of
from kilotune.graph.node import Graph, Layer
from kilotune.graph.way import Charge, Modes, Way
from kilotune.update_plan import Axis, ChannelSet, Keep


class UnitCost(NamedTuple):
    """Elements that training costs: ``weight`` per unit, ``kept`` from forward to backward, ``state`` from step to step."""

    weight: int
    kept: Charge
    state: Charge


def unit_cost(graph: Graph, layer: Layer, axis: Axis, way: Way | None, batch: int = 1) -> UnitCost:
    """What no choice of units of ``layer`` along ``axis`` exceeds, its input kept in ``way`` (None: exactly).

    Output neurons read the whole input, which is then charged once, whatever is chosen.
    """
    return _unit_cost(layer, axis, way, None if way is None else modes_of(graph, layer), batch)


@lru_cache(maxsize=1 << 14)  # every layout of a network asks for the same ones
def _unit_cost(layer: Layer, axis: Axis, way: Way | None, modes: Modes | None, batch: int) -> UnitCost:
    weight = layer.channel_weight_elements if axis == "in" else layer.neuron_weight_elements
    if way is None or modes is None:
        kept, state = Charge(0, layer.channel_input_elements * batch), Charge()
    else:
        kept, state = way.bound(modes, batch), way.state_bound(modes, batch)
    if not layer.keeps_channels(axis):
        kept, state = kept.of_all(layer.in_channels), state.of_all(layer.in_channels)
    return UnitCost(weight, kept, state)


class ChosenCost(NamedTuple):
    """Elements that a channel set costs; ``kept`` is the cap where it depends on the data."""

    weights: int
    kept: int
    state: int


def chosen_cost(graph: Graph, chosen: ChannelSet, ways: Mapping[str, Way], batch: int = 1) -> ChosenCost:
    """What ``chosen`` costs at a batch size, inputs kept in ``ways`` by layer."""
    layer, n_units = graph.find_layer(chosen.layer), len(chosen.indices)
    channels = n_units if layer.keeps_channels(chosen.axis) else layer.in_channels
    weights = n_units * unit_cost(graph, layer, chosen.axis, None).weight
    if chosen.layer not in ways:
        return ChosenCost(weights, channels * layer.channel_input_elements * batch, 0)
    way, modes = ways[chosen.layer], modes_of(graph, layer)
    return ChosenCost(weights, way.kept(modes, batch, channels), way.state(modes, batch, channels))


@dataclass(frozen=True)
class ChannelTable:
    """One row per layer in forward order, the classifier left out. Unit ids count through all rows: 0 .. n_channels-1.

    axis: units are input channels ("in") or output neurons ("out"). names: (layers,); channels: units of each layer.
    weight, activation: C_W and C_A elements of one unit (TraDy, section 3.1: C_W = C' D^2 / groups, C_A = H W for an
    input channel kept exactly). once: elements charged once for a layer of which anything may be trained, such as the whole
    input of a layer with trained neurons. norms: L2 norm of each input channel's weights (n_channels,), of neurons none.
    """

    names: tuple[str, ...]
    channels: np.ndarray
    weight: np.ndarray
    activation: np.ndarray
    norms: np.ndarray
    once: np.ndarray
    axis: Axis = "in"

    @classmethod
    def of(cls, graph: Graph, axis: Axis = "in", keeps: tuple[Keep, ...] = ()) -> "ChannelTable":
        """The table of a captured network whose layers keep their inputs as ``keeps`` says."""
        body, ways = graph.body, ways_of(keeps)
        costs = [unit_cost(graph, layer, axis, ways.get(layer.name)) for layer in body]
        norms = [norm for layer in body for norm in layer.input_norms] if axis == "in" else []
        return cls(
            tuple(layer.name for layer in body),
            _whole([layer.in_channels if axis == "in" else layer.out_channels for layer in body]),
            _whole([cost.weight for cost in costs]),
            _whole([cost.kept.unit + cost.state.unit for cost in costs]),
            np.array(norms, dtype=np.float64),
            _whole([cost.kept.once + cost.state.once for cost in costs]),
            axis,
        )

    @property
    def cost(self) -> np.ndarray:
        """C_W + C_A of one unit of each layer (layers,), elements."""
        return self.weight + self.activation

    def total(self, counts: np.ndarray) -> int:
        """Elements of ``counts`` units of each layer (layers,), with what is charged once."""
        return int(counts @ self.cost + (counts > 0) @ self.once)

    def weights_only(self) -> "ChannelTable":
        """The same units where inputs cost nothing: the accounting of the ``parameters`` ledger."""
        nothing = np.zeros_like(self.weight)
        return replace(self, activation=nothing, once=nothing)

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
        """Channel ids in any order as the plan's sets, in forward order."""
        ids = np.sort(ids)
        rows = self.layer_of[ids]
        return tuple(
            ChannelSet(self.names[row], self.axis, tuple((ids[rows == row] - self.first[row]).tolist()))
            for row in np.unique(rows)
        )

    def to_ids(self, sets: tuple[ChannelSet, ...]) -> np.ndarray:
        """The inverse of ``to_sets``."""
        parts = [self.first[self.row(chosen.layer)] + np.array(chosen.indices) for chosen in sets]
        return np.concatenate(parts) if parts else np.array([], dtype=np.int64)


def _whole(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)
