"""The tables of a project: what draws may train of each layer, and where its slices lie."""

from collections.abc import Iterator

import numpy as np

from kilotune.codegen.program import Argument, Below, Place, Struct
from kilotune.codegen.region import SlicePlace
from kilotune.codegen.values import NOTHING, Values
from kilotune.graph.node import Layer
from kilotune.memory.cost import unit_cost
from kilotune.update_plan import ChannelSet, UpdatePlan


class Tables:
    """``kt_layers`` and ``kt_slices`` of the project that trains ``plan``."""

    def __init__(self, values: Values, plan: UpdatePlan):
        self.v, self.plan, self.region = values, plan, values.region

    @property
    def sliced(self) -> list[Layer]:
        """Layers of the tables: the pool, and what is trained whole."""
        return [*self.region.pool, *self.region.whole]

    def lowest(self) -> int:
        """First byte of what stays from step to step; of the largest draw, if there are others."""
        drawing = self.v.drawing
        weights = drawing.max_weights if drawing else sum(share.weights for share in self.region.shares(self._channels))
        return self.region.top - 4 * weights * self.region.copies

    @property
    def _channels(self) -> tuple[ChannelSet, ...]:
        """Those of the plan; none yet where the device draws."""
        return () if self.v.drawing else self.plan.channels

    def structs(self) -> tuple[Struct, Struct]:
        """Both tables, a row per layer."""
        rows, at = [], 0
        for layer in self.sliced:
            rows.append((at, *self._row(layer)))
            at += layer.weight_elements
        return Struct("kt_layer", "kt_layers", tuple(rows)), Struct("kt_slice", "kt_slices", tuple(self._slices()))

    def _row(self, layer: Layer) -> tuple[int, ...]:
        """What kt_layer says of a layer; of output neurons, that each is a group of its own that nobody else reads."""
        if layer.name in self.region.neurons:
            return 0, layer.out_channels, 1, layer.neuron_weight_elements, layer.out_channels, 0
        outputs, kernel = layer.out_channels // layer.groups, layer.kernel_elements
        again = int(layer.node in self.v.made_again)
        kept = unit_cost(self.v.graph, layer, "in", self.region.layout.ways.get(layer.name)).kept.unit
        return kept, layer.in_channels, outputs, kernel, layer.groups, again

    def _slices(self) -> Iterator[tuple[Argument | str, ...]]:
        region, chosen = self.region, {one.layer: one.indices for one in self._channels}
        places = region.places(self._channels)
        for number, (layer, at) in enumerate(zip(region.pool, places, strict=True)):
            velocity = NOTHING if at.velocity is None else Place(at.velocity)
            indices = chosen.get(layer.name, ())
            index = self._index(number, indices)
            yield index, Place(at.delta), Place(at.gradient), velocity, Place(at.kept), len(indices)
        for number, layer in enumerate(region.whole, start=len(places)):
            whole, node = region.trained[f"{layer.name}.weight"], self.v.graph.node[layer.node]
            at_once = region.layout.accounting.layer_gradients
            passing = whole.gradient or (self._passing_gradient(layer, places) if at_once else NOTHING)
            own = [name for form in ("again", "compressed") if region.has(name := f"{node.name}.{form}")]
            kept = Place(region.buffer(own[0]).offset) if own else self.v.value(node.inputs[0])
            index = self._index(number, tuple(range(layer.in_channels)))
            yield index, whole.value, passing, whole.velocity or NOTHING, kept, layer.in_channels

    def below_its_bias(self, layer: Layer) -> Place | Below:
        """Where the gradient of a whole layer lies that does not stay, below that of its bias."""
        return self.region.passing(layer.node, layer.weight_elements + layer.has_bias * layer.out_channels)

    def _passing_gradient(self, layer: Layer, places: list[SlicePlace]) -> Place:
        """The same, where draws do not change it."""
        at = self.below_its_bias(layer)
        return at if isinstance(at, Place) else Place(getattr(places[at.slice], at.field) - 4 * at.elements)

    def _index(self, number: int, indices: tuple[int, ...]) -> Argument:
        return self.v.constant(f"index{number}", np.array(indices, np.uint16)) if indices else NOTHING
