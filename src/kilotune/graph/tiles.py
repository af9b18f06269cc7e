"""What ways of keeping need while they work on a device: a few channels at a time are made again, where gradients read them.

Compressing needs nothing: every element is read where it lies, and written where it is kept. Letters as in ``graph.scratch``.
"""

from collections.abc import Callable
from math import prod

from kilotune.graph.node import Layer
from kilotune.graph.scratch import Scratch
from kilotune.graph.way import Charge, Modes, Way
from kilotune.graph.ways import Filtered

ABREAST = 4
"""Channels that a matrix product over pixels takes at once, as many as a processor without vectors has registers for."""

Needs = Callable[[Way | None, Layer, Modes, int, int], Scratch]
"""(way, layer, modes, batch, most channels) -> what keeping needs, on tensors or on a device."""


def tile(layer: Layer) -> int:
    """Channels of the input of ``layer`` that are made again at a time."""
    is_product = layer.kind == "conv2d" and prod(layer.kernel) == 1 and layer.groups == 1
    return ABREAST if is_product else 1


def filter_means(way: Filtered, layer: Layer) -> int:
    """Means of the gradient over patches (o,ph,pw)."""
    return layer.out_channels * way.patches(layer.output_hw)


def filter_working(way: Filtered, layer: Layer) -> int:
    """What one channel needs beside them: its gradient without taps, or that of its input over patches."""
    return max(layer.out_channels // layer.groups, way.patches(layer.output_hw))


def scratch_in_tiles(way: Way | None, layer: Layer, modes: Modes, batch: int, most: int) -> Scratch:
    """What keeping up to ``most`` channels of the input of ``layer`` in ``way`` (None: exactly) needs on a device."""
    if way is None:
        return Scratch()
    if isinstance(way, Filtered):
        return Scratch(backward=Charge(filter_means(way, layer) + filter_working(way, layer)))
    return Scratch(backward=Charge(min(tile(layer), most) * modes.positions(batch)))
