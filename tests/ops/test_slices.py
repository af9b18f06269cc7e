"""Slices of weights: cut and written back against a loop, and the folding of batch norm."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune.graph.node import Conv2d, FoldedNorm
from kilotune.ops.slices import LiveBias, LiveWeight, Slice, bias_name, folded, norm_scale, norm_shift
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


@pytest.mark.parametrize("with_norm", [False, True])
def test_a_parameter_follows_what_was_done_to_the_folded_one(with_norm):
    """Where nothing was done, or nothing can be, its bits stay."""
    torch.manual_seed(0)
    weight, shift = torch.randn(6, 5, 3, 2), torch.randn(6)
    op = conv(1, 5, 6)
    piece = Slice.of(op, ChannelSet("l", "in", (1, 3, 4)), {op.weight: weight})
    norm = torch.tensor([0.5, -3.0, 0.0, 1e-3, 7.0, 0.1])
    scale = piece.scale(norm, weight) if with_norm else None
    live_weight = LiveWeight(piece, nn.Parameter(piece.cut(weight)), weight, weight.clone(), scale)
    live_bias = LiveBias(
        nn.Parameter(shift.clone()), shift, shift.clone(), torch.full((6,), 100.0), norm if with_norm else None
    )
    for live in (live_weight, live_bias):
        before, ours = live.parameter.detach().clone(), live.fold().clone()
        live.unfold(ours)
        assert torch.equal(live.parameter, before)
        step = torch.zeros_like(ours)
        step.flatten()[::2] = 0.25
        moving = (
            torch.ones_like(ours) if not with_norm else torch.ones_like(ours) * (scale if live is live_weight else norm)
        )
        live.unfold(ours + step * moving)
        moved = step * (moving != 0)
        torch.testing.assert_close(live.parameter.detach(), before + moved, rtol=0, atol=1e-4)
        assert torch.equal(live.parameter[moved == 0], before[moved == 0])
