"""Where things lie in the arena: fixed buffers from the bottom; from the top what every draw trains, then its slices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from kilotune.codegen.program import Below, Place, Trained
from kilotune.errors import ExportError
from kilotune.graph.node import Layer
from kilotune.memory.accounting import OPTIMIZER_SLOTS
from kilotune.memory.cost import ChosenCost, chosen_cost
from kilotune.memory.ledger import Layout
from kilotune.memory.passing import gradient_is_whole
from kilotune.update_plan import ChannelSet

_FLOAT_BYTES = 4


class SlicePlace(NamedTuple):
    """Offsets of a slice, bytes; velocity None without momentum. Twin of ``kt_slice``."""

    delta: int
    gradient: int
    velocity: int | None
    kept: int


class Share(NamedTuple):
    """What a layer takes of the slices, elements: trained weights, and its input from forward to backward.

    again: the input is there in the backward step only, above those of the layers before.
    """

    weights: int
    kept: int
    again: bool = False


def place(shares: Sequence[Share], top: int, copies: int, accumulate: bool) -> list[SlicePlace]:
    """Where the slices of the layers lie below ``top``, in forward order. Twin of ``kt_place``."""
    weights = [share.weights * _FLOAT_BYTES for share in shares]
    deltas = []
    for nbytes in weights:
        top -= nbytes * copies
        deltas.append(top)
    places = []
    for share, nbytes, delta in zip(shares, weights, deltas, strict=True):
        kept = top - share.kept * _FLOAT_BYTES
        gradient = delta + nbytes if accumulate else kept - nbytes
        velocity = delta + nbytes * (1 + accumulate) if copies > 1 + accumulate else None
        places.append(SlicePlace(delta, gradient, velocity, kept))
        top = top if share.again else kept
    return places


@dataclass(frozen=True)
class Region:
    """The arena of a project: ``nbytes`` of it, laid out for the layers ``pool``, with ``state_bytes`` of the policy on top.

    neurons: layers of which output neurons are trained that read the whole input.
    """

    layout: Layout
    pool: tuple[Layer, ...]
    nbytes: int
    state_bytes: int
    neurons: frozenset[str] = frozenset()

    def __post_init__(self):
        if self.layout.accounting.batch != 1 or self.layout.accounting.dtype != "float32":
            raise ExportError("firmware sees one sample at a time in float32; plan with batch 1 and dtype float32")
        if self.layout.accounting.optimizer not in ("sgd", "momentum"):
            name = self.layout.accounting.optimizer
            raise ExportError(f"optimizer {name} is not available on a device; use sgd, with momentum or without")

    @property
    def copies(self) -> int:
        """Numbers that stay per trained weight."""
        return self.layout.accounting.resident_copies

    @property
    def accumulate(self) -> bool:
        """Whether gradients are summed over samples."""
        return self.layout.accounting.accumulate

    @property
    def top(self) -> int:
        """First byte above the slices."""
        return self.nbytes - self.state_bytes - self.layout.resident_bytes

    @property
    def state(self) -> Place:
        """Where the policy keeps its memory."""
        return Place(self.nbytes - self.state_bytes)

    @cached_property
    def whole(self) -> tuple[Layer, ...]:
        """Layers that every draw trains whole, the classifier among them."""
        return tuple(layer for layer in self.layout.graph.layers if f"{layer.name}.weight" in self.trained)

    @cached_property
    def trained(self) -> dict[str, Trained]:
        """What every draw trains, by ``layer.bias`` and ``layer.weight``: all values, then gradients, then velocities."""
        sizes = dict(self._trained_sizes())
        total, found, offset = sum(sizes.values()) * _FLOAT_BYTES, {}, self.top
        momentum = OPTIMIZER_SLOTS[self.layout.accounting.optimizer] > 0
        for name, elements in sizes.items():
            gradient = Place(offset + total) if self.accumulate else None
            velocity = Place(offset + total * (1 + self.accumulate)) if momentum else None
            found[name] = Trained(name.rpartition(".")[0], elements, Place(offset), gradient, velocity)
            offset += elements * _FLOAT_BYTES
        assert total * self.copies == self.nbytes - self.state_bytes - self.top
        return found

    def _trained_sizes(self) -> Iterator[tuple[str, int]]:
        graph = self.layout.graph
        steps = {step.node.name: step for step in self.layout.timeline.step_graph.steps}
        for layer in graph.layers:
            step = steps.get(layer.node)
            if step is not None and step.bias:
                yield f"{layer.name}.bias", layer.out_channels
            if step is not None and step.channels is not None:
                yield f"{layer.name}.weight", layer.weight_elements

    @cached_property
    def made_again(self) -> set[str]:
        """Nodes of layers whose input is made again in the backward pass."""
        steps = self.layout.timeline.step_graph.steps
        return {step.node.name for step in steps if step.again and step.node.layer not in self.layout.ways}

    def shares(self, channels: Iterable[ChannelSet]) -> list[Share]:
        """What each layer of the pool takes where ``channels`` are trained, as the ledger has it."""
        costs = {one.layer: chosen_cost(self.layout.graph, one, self.layout.ways) for one in channels}
        none = ChosenCost(0, 0, 0)
        return [
            Share((cost := costs.get(layer.name, none)).weights, cost.kept, layer.node in self.made_again)
            for layer in self.pool
        ]

    def places(self, channels: Iterable[ChannelSet]) -> list[SlicePlace]:
        """Where their slices lie, by layer of the pool."""
        return place(self.shares(channels), self.top, self.copies, self.accumulate)

    def gradient_is_whole(self, node: str) -> bool:
        """Whether gradients of all channels of a layer are there for a moment."""
        return gradient_is_whole(self.layout.accounting, self.layout.timeline, node)

    @property
    def reads_bytes(self) -> bool:
        """Whether the image is bytes."""
        return self.layout.timeline.image_bytes is not None

    def buffer(self, name: str) -> Place:
        """Where a fixed buffer lies."""
        return self._buffers[name]

    def has(self, name: str) -> bool:
        """Whether there is a fixed buffer of this name."""
        return name in self._buffers

    @cached_property
    def _buffers(self) -> dict[str, Place]:
        arena = self.layout.arena
        return {
            buffer.name: Place(offset, buffer.kind == "mask")
            for buffer, offset in zip(arena.buffers, arena.offsets, strict=True)
        }

    def passing(self, node: str, elements: int) -> Place | Below:
        """Where a gradient that does not stay lies during the backward step of ``node``: below the stack."""
        at = self.layout.timeline.backward_at
        alive = [
            number
            for number, layer in enumerate(self.pool)
            if layer.node == node or (at[layer.node] > at[node] and layer.node not in self.made_again)
        ]
        if alive:
            whole = self.pool[alive[-1]].node == node and self.layout.accounting.layer_gradients
            return Below(alive[-1], "gradient" if whole else "kept", elements)
        if self.pool:
            return Below(len(self.pool) - 1, "delta", elements)
        return Place(self.top - elements * _FLOAT_BYTES)
