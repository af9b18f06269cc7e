"""Slices of weights: cut and written back against a loop, and the folding of batch norm."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.node import Conv2d, FoldedNorm
from kilotune.ops.slices import Slice, bias_name, folded, norm_scale, norm_shift
from kilotune.update_plan import ChannelSet
from tests.oracles.dense import FLOAT64_TOLERANCE, entries, relative_error
from tests.oracles.networks import some_of

NORM = FoldedNorm("n.weight", "n.bias", "n.mean", "n.var", 1e-3)


def conv(groups, inputs, outputs, norm=None, bias=None):
    shape = (groups * outputs, inputs, 3, 2)
    return Conv2d("w", shape, bias, (1, 1), (0, 0, 0, 0), (1, 1), groups, norm=norm)


@settings(max_examples=50)
@given(st.data(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["in", "out"]))
def test_cut_write_and_scale_against_a_loop(data, groups, inputs, outputs, axis):
    op = conv(groups, inputs, outputs)
    weight = torch.randn(op.weight_shape, dtype=torch.float64)
    chosen = ChannelSet("l", axis, some_of(data.draw, groups * {"in": inputs, "out": outputs}[axis]))
    piece = Slice.of(op, chosen, {op.weight: weight})
    cut = piece.cut(weight)
    assert torch.equal(cut, torch.stack(entries(weight, chosen, groups)))
    scale = torch.randn(groups * outputs, dtype=torch.float64)
    scaled = entries(weight * scale.view(-1, 1, 1, 1), chosen, groups)
    assert torch.equal(cut * piece.scale(scale, weight), torch.stack(scaled))
    expected = weight.clone()
    for view in entries(expected, chosen, groups):
        view.fill_(7.0)
    piece.write(weight, torch.full_like(cut, 7.0))
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [None, "b"])
def test_folding_is_the_norm_after_the_layer(affine, bias):
    norm = NORM if affine else FoldedNorm(None, None, "n.mean", "n.var", 1e-3)
    op = conv(1, 3, 4, norm, bias)
    vectors = {name: torch.randn(4, dtype=torch.float64) for name in ("n.weight", "n.bias", "n.mean", "b")}
    tensors = {
        "w": torch.randn(op.weight_shape, dtype=torch.float64),
        "n.var": torch.rand(4, dtype=torch.float64),
        **vectors,
    }
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    y = torch.nn.functional.conv2d(x, tensors["w"], tensors["b"] if bias else None)
    expected = torch.nn.functional.batch_norm(
        y, tensors["n.mean"], tensors["n.var"], *((tensors["n.weight"], tensors["n.bias"]) if affine else ()), eps=1e-3
    )
    assert relative_error(torch.nn.functional.conv2d(x, *folded(op, tensors)), expected) < FLOAT64_TOLERANCE
    shifted = y * norm_scale(norm, tensors).view(-1, 1, 1) + norm_shift(norm, tensors).view(-1, 1, 1)
    assert relative_error(shifted, expected) < FLOAT64_TOLERANCE


def test_without_a_norm_nothing_is_copied():
    op = conv(1, 3, 4, None, "b")
    tensors = {"w": torch.randn(op.weight_shape), "b": torch.randn(4)}
    weight, bias = folded(op, tensors)
    assert weight is tensors["w"]
    assert bias is tensors["b"]


def test_bias_is_the_shift_of_the_norm_where_there_is_one():
    assert bias_name(conv(1, 3, 4, NORM, "b")) == "n.bias"
    assert bias_name(conv(1, 3, 4, FoldedNorm(None, None, "m", "v", 1e-5), "b")) == "b"
    assert bias_name(conv(1, 3, 4)) is None
