"""Inputs of layers at random, and where they are kept."""

import torch
from hypothesis import strategies as st

from kilotune.graph.backward import Compressed
from kilotune.graph.node import Conv2d, Linear
from kilotune.graph.way import Modes
from kilotune.graph.ways import parse_way
from kilotune.ops.linear import conv2d
from kilotune.ops.place import Memory, Place
from kilotune.ops.slices import Slice
from kilotune.update_plan import ChannelSet
from tests.oracles.networks import geometries, some_of


def place(op, modes, text, chosen):
    """Where an input is kept of which ``chosen`` is trained."""
    per_neuron = op.groups == modes.channels == op.weight_shape[0]
    channels = len(chosen.indices) if chosen.axis == "in" or per_neuron else modes.channels
    way = parse_way(text)
    return Place(
        op, Slice(chosen, op.groups, torch.tensor(chosen.indices)), Compressed(way, modes, channels), Memory(way)
    )


@st.composite
def convolutions(draw, text, dtype=torch.float64):
    """(place, input, dL/dy) of a convolution: dense, grouped or depthwise, any stride, padding and dilation."""
    g = draw(geometries())
    (c, o), n = g.channels, draw(st.integers(1, 4))
    op = Conv2d("w", (o, g.inputs_per_group, *g.kernel), None, g.stride, g.padding, (g.dilation,) * 2, g.groups)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn((n, c, *g.size), generator=generator, dtype=dtype)
    dy = conv2d(op, torch.zeros(op.weight_shape, dtype=dtype), None, x)
    dy = torch.randn(dy.shape, generator=generator, dtype=dtype)
    layout = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    return place(op, Modes((1, c, *g.size), 0, 1, tuple(dy.shape[2:])), text, draw(chosen(c, o))), *(
        tensor.contiguous(memory_format=layout) for tensor in (x, dy)
    )


@st.composite
def linears(draw, text, dtype=torch.float64):
    """(place, input, dL/dy) of a linear layer: inputs (n, c), (n, t, c) or (n, h, w, c)."""
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    o = draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(shape, generator=generator, dtype=dtype)
    dy = torch.randn([*shape[:-1], o], generator=generator, dtype=dtype)
    op = Linear("w", (o, shape[-1]), None)
    modes = Modes((1, *shape[1:]), 0, len(shape) - 1, tuple(shape[1:-1]))
    return place(op, modes, text, draw(chosen(shape[-1], o))), x, dy


@st.composite
def chosen(draw, n_inputs, n_outputs):
    """Some input channels or output neurons."""
    axis = draw(st.sampled_from(["in", "out"]))
    return ChannelSet("layer", axis, some_of(draw, {"in": n_inputs, "out": n_outputs}[axis]))
