import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune.models.layers import Conv2dSame, Layers, initialise


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 11), st.integers(3, 11), st.sampled_from([3, 5, 7]), st.sampled_from([1, 2]))
def test_same_padding_reads_what_tensorflow_defines(height: int, width: int, kernel: int, stride: int):
    """Oracle: position (i, j) reads rows i*s - top .. i*s - top + k - 1, top = half of the total, rounded down."""
    conv = Conv2dSame(1, 1, kernel, stride, bias=False)
    nn.init.ones_(conv.weight)
    image = torch.arange(1.0, height * width + 1).view(1, 1, height, width)
    output = conv(image)
    rows, columns = -(-height // stride), -(-width // stride)
    assert output.shape == (1, 1, rows, columns)
    top = max((rows - 1) * stride + kernel - height, 0) // 2
    left = max((columns - 1) * stride + kernel - width, 0) // 2
    for i in range(rows):
        for j in range(columns):
            y, x = i * stride - top, j * stride - left
            window = image[0, 0, max(y, 0) : y + kernel, max(x, 0) : x + kernel]
            torch.testing.assert_close(output[0, 0, i, j], window.sum(), rtol=1e-6, atol=1e-3)


def test_stride_two_on_an_even_size_pads_only_right_and_below():
    conv = Layers(padding="tf_same").conv(2, 3, 3, 2)
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2)
    assert torch.equal(conv(x), expected)


def test_stride_one_needs_no_separate_padding():
    assert type(Layers(padding="tf_same").conv(2, 3, 5)) is nn.Conv2d


def test_folded_layers_have_biases_and_no_norm():
    make = Layers(folded=True)
    assert make.conv(2, 3).bias is not None
    assert isinstance(make.norm(3), nn.Identity)
    assert Layers().conv(2, 3).bias is None


def test_epsilon_reaches_the_norm():
    assert Layers(epsilon=1e-3).norm(4).eps == 1e-3


def test_initialise_follows_fan_out():
    conv = nn.Conv2d(32, 64, 3)
    initialise(conv)
    # Standard deviation sqrt(2 / (64 * 9)) of 18,432 draws: the relative standard error is 0.5 %, 3 % is six of them.
    assert abs(conv.weight.std().item() / (2 / (64 * 9)) ** 0.5 - 1) < 0.03
    assert not conv.bias.any()
