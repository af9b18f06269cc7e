"""Few bits per element, or the largest elements: what is kept, and what comes back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilotune.graph.node import Conv2d, Linear
from kilotune.graph.way import Modes
from kilotune.ops.rows import dequantise, prune, quantise, unprune
from kilotune.update_plan import ChannelSet
from tests.oracles import places

shapes = st.one_of(
    st.tuples(*[st.integers(1, 5)] * 4), st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.integers(1, 9)] * 2)
)


def place(shape, text, indices):
    """The input of a pointwise convolution (n, c, h, w) or a linear layer (n, ..., c), some of its channels kept."""
    axis = 1 if len(shape) == 4 else len(shape) - 1
    c = shape[axis]
    op = Conv2d("w", (3, c, 1, 1), None, (1, 1), (0,) * 4, (1, 1), 1) if len(shape) == 4 else Linear("w", (3, c), None)
    return places.place(op, Modes((1, *shape[1:]), 0, axis, shape[2:]), text, ChannelSet("layer", "in", indices))


@st.composite
def inputs(draw, text):
    shape = draw(shapes)
    axis = 1 if len(shape) == 4 else len(shape) - 1
    indices = draw(st.sets(st.integers(0, shape[axis] - 1), min_size=1))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    if len(shape) == 4 and draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    where = place(shape, text, tuple(sorted(indices)))
    return x, where, where.cut(x)


def nbytes(parts):
    return sum(part.untyped_storage().nbytes() for part in parts)


@pytest.mark.parametrize("text", ["int8", "int4"])
@given(data=st.data())
def test_quantised(text, data):
    """Never a step away, and right on average."""
    x, where, kept = data.draw(inputs(text))
    parts = quantise(x, where)
    assert nbytes(parts) == 4 * where.way.kept(where.compressed.modes, len(x), where.compressed.channels)
    back = dequantise(parts, where, x)
    assert back.shape == kept.shape
    others = [axis for axis in range(x.dim()) if axis != where.channel_axis]
    step = kept.abs().amax(others, keepdim=True) / {"int8": 127, "int4": 7}[text]
    assert ((back - kept).abs() <= step * (1 + 1e-5)).all()


@given(st.integers(1, 12), st.integers(0, 99))
def test_of_equally_large_values_the_first_are_kept(n, seed):
    x = torch.randint(-2, 3, (1, 2, n, 1), generator=torch.Generator().manual_seed(seed)).double()
    values, _ = prune(x, place((1, 2, n, 1), "prune:0.4", (0, 1)))
    order = sorted(range(2 * n), key=lambda i: (-abs(float(x.flatten()[i])), i))
    assert torch.equal(values, x.flatten()[sorted(order[: len(values)])])


def test_rounding_is_unbiased():
    where = place((1, 2, 3, 3), "int4", (0, 1))
    x = torch.randn((1, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    mean = torch.stack([dequantise(quantise(x, where), where, x) for _ in range(4000)]).mean(0)
    step = x.abs().amax((0, 2, 3), keepdim=True) / 7
    # The mean of 4,000 roundings has a standard deviation below step / 2 / sqrt(4000): five of these.
    assert ((mean - x).abs() < step * 5 / 2 / 4000**0.5).all()


def test_a_channel_of_zeros():
    where = place((2, 3, 2, 2), "int8", (0, 1, 2))
    assert dequantise(quantise(torch.zeros(2, 3, 2, 2), where), where, torch.zeros(2, 3, 2, 2)).eq(0).all()


@pytest.mark.parametrize("share", ["0.05", "0.3", "1"])
@given(data=st.data())
def test_pruned(share, data):
    """The largest magnitudes of all kept channels together, the others zero."""
    x, where, kept = data.draw(inputs(f"prune:{share}"))
    parts = prune(x, where)
    assert nbytes(parts) == 4 * where.way.kept(where.compressed.modes, len(x), where.compressed.channels)
    back = unprune(parts, where, x)
    magnitudes = kept.abs().flatten().sort(descending=True).values
    count = len(parts[0])
    assert int((back != 0).sum()) == count
    assert torch.equal(back, torch.where(kept.abs() >= magnitudes[count - 1], kept, 0))
