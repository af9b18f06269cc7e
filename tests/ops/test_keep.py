"""Bits and window positions come back exactly, in both memory layouts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.node import MaxPool
from kilotune.ops.keep import cut_channels, pack_bits, pack_taps, unpack_bits, unpack_taps

LAYOUTS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
sizes = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@settings(max_examples=50)
@given(sizes, st.integers(0, 2**31), st.sampled_from(LAYOUTS), st.sampled_from(DTYPES))
def test_bits(shape, seed, layout, dtype):
    mask = torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if layout is torch.channels_last and mask.dim() == 4:
        mask = mask.contiguous(memory_format=layout)
    bits = pack_bits(mask, layout)
    assert bits.dtype == torch.uint8
    assert bits.shape == (-(-mask.numel() // 8),)
    back = unpack_bits(bits, mask.shape, dtype, layout)
    assert back.dtype == dtype
    assert torch.equal(back, mask)


def test_bits_against_a_loop():
    mask = torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 0, 1, 1])
    assert pack_bits(mask).tolist() == [sum(2**i for i in (0, 3, 5, 6)), 0b11]


def test_bits_lie_in_memory_order():
    image = torch.tensor([[[[1.0, 0], [0, 0]], [[1, 1], [0, 0]]]])
    assert pack_bits(image).tolist() == [0b00110001]
    assert pack_bits(image.contiguous(memory_format=torch.channels_last), torch.channels_last).tolist() == [0b00001011]


@settings(max_examples=50)
@given(st.data(), st.sampled_from(LAYOUTS), st.integers(0, 2**31))
def test_taps(data, layout, seed):
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    kernel, stride = data.draw(pairs), data.draw(pairs)
    dilation = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    op = MaxPool(kernel, stride, padding, dilation, data.draw(st.booleans()))
    size = tuple(data.draw(st.integers(d * (k - 1) + 1, 12)) for k, d in zip(kernel, dilation, strict=True))
    x = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(seed)).contiguous(memory_format=layout)
    _, indices = F.max_pool2d(x, kernel, stride, padding, dilation, op.ceil_mode, return_indices=True)
    taps = pack_taps(indices, size[1], op)
    assert taps.dtype == torch.uint8
    assert int(taps.max()) < kernel[0] * kernel[1]
    assert torch.equal(unpack_taps(taps, size[1], op), indices)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_are_copied_in_their_layout(layout):
    x = torch.arange(2 * 5 * 3 * 4.0).view(2, 5, 3, 4).contiguous(memory_format=layout)
    cut = cut_channels(x, 1, torch.tensor([1, 4]))
    assert torch.equal(cut, x[:, [1, 4]])
    assert cut.is_contiguous(memory_format=layout)
    assert cut.untyped_storage().nbytes() == 4 * 2 * 2 * 3 * 4
