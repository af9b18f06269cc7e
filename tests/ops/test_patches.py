"""Gradient filtering, against loops over patches (arXiv 2301.00330, section 3)."""

from math import ceil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from kilotune.graph.node import Conv2d
from kilotune.graph.way import Modes
from kilotune.ops.patches import patch_input_grad, patch_means, patch_sums, patch_weight_grad
from kilotune.update_plan import ChannelSet
from tests.oracles.dense import FLOAT64_TOLERANCE, entries, relative_error
from tests.oracles.places import convolutions, place


def corners(size, n_patches, length):
    """(first, one behind the last) position of each patch, the patches being centred on ``size`` positions."""
    before = ceil((n_patches * length - size) / 2)
    spans = [(patch * length - before, (patch + 1) * length - before) for patch in range(n_patches)]
    return [(max(first, 0), max(min(last, size), 0)) for first, last in spans]


def by_loops(x, dy, weight, op, patch):
    """(dW, dX) of the paper, one patch after another."""
    ph, pw = (ceil(size / patch) for size in dy.shape[2:])
    steps = [patch * stride for stride in op.stride]
    x_rows, x_columns = (corners(s, n, length) for s, n, length in zip(x.shape[2:], (ph, pw), steps, strict=True))
    y_rows, y_columns = (corners(s, n, patch) for s, n in zip(dy.shape[2:], (ph, pw), strict=True))
    sums, means = x.new_zeros(*x.shape[:2], ph, pw), dy.new_zeros(*dy.shape[:2], ph, pw)
    for i in range(ph):
        for j in range(pw):
            sums[:, :, i, j] = x[:, :, slice(*x_rows[i]), slice(*x_columns[j])].sum((2, 3))
            means[:, :, i, j] = dy[:, :, slice(*y_rows[i]), slice(*y_columns[j])].mean((2, 3))
    dw, dx = torch.zeros_like(weight), torch.zeros_like(x)
    per_group, outputs = weight.shape[1], weight.shape[0] // op.groups
    for o in range(weight.shape[0]):
        for c in range(per_group):
            channel = o // outputs * per_group + c
            dw[o, c] = (means[:, o] * sums[:, channel]).sum()
            for i in range(ph):
                for j in range(pw):
                    add = weight[o, c].sum() * means[:, o, i, j]
                    dx[:, channel, slice(*x_rows[i]), slice(*x_columns[j])] += add[:, None, None]
    return dw, dx


@pytest.mark.parametrize("patch", [2, 4, 7])
@given(data=st.data())
def test_both_gradients(patch, data):
    where, x, dy = data.draw(convolutions(f"filter:{patch}"))
    assume(where.op.dilation[0] < patch)
    weight = torch.randn(where.op.weight_shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    parts = patch_sums(x, where)
    stored = parts[0].untyped_storage().nbytes() // 8
    assert stored == where.way.kept(where.compressed.modes, len(x), where.compressed.channels)
    dw, dx = by_loops(x, dy, weight, where.op, patch)
    expected = torch.stack(entries(dw, where.slice.chosen, where.op.groups))
    assert relative_error(patch_weight_grad(where, parts, dy), expected) < FLOAT64_TOLERANCE
    assert relative_error(patch_input_grad(where, weight, dy, tuple(x.shape)), dx) < FLOAT64_TOLERANCE


def test_a_constant_input_loses_nothing():
    """Where the input is constant, sums over patches say all there is to say: a pointwise layer's gradient is exact."""
    op = Conv2d("w", (3, 2, 1, 1), None, (1, 1), (0,) * 4, (1, 1), 1)
    where = place(op, Modes((1, 2, 5, 8), 0, 1, (5, 8)), "filter:4", ChannelSet("layer", "in", (0, 1)))
    x = torch.ones(3, 2, 5, 8, dtype=torch.float64)
    dy = torch.randn(3, 3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    found = patch_weight_grad(where, patch_sums(x, where), dy)
    assert relative_error(found, where.live_grad(x, dy)) < FLOAT64_TOLERANCE


def test_far_dilation_keeps_the_kernel():
    """A dilation of at least the patch is a dilation on the map of patches, by whole patches (the authors' code)."""
    op = Conv2d("w", (3, 2, 3, 3), None, (1, 1), (4,) * 4, (4, 4), 1)
    where = place(op, Modes((1, 2, 8, 8), 0, 1, (8, 8)), "filter:2", ChannelSet("layer", "in", (0, 1)))
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(2, c, 8, 8, generator=generator, dtype=torch.float64) for c in (2, 3))
    parts = patch_sums(x, where)
    small = F.conv2d(parts[0].requires_grad_(), torch.zeros(3, 2, 3, 3, dtype=x.dtype), None, 1, 2, 2)
    assert small.shape == patch_means(dy, 2).shape
    weight = torch.randn(op.weight_shape, generator=generator, dtype=x.dtype)
    kernel = weight.clone().requires_grad_()
    coarse = F.conv2d(parts[0], kernel, None, 1, 2, 2)
    coarse.backward(patch_means(dy, 2))
    found = patch_weight_grad(where, [parts[0].detach()], dy)
    assert relative_error(found, kernel.grad.transpose(0, 1)) < FLOAT64_TOLERANCE
    dx = parts[0].grad.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert relative_error(patch_input_grad(where, weight, dy, tuple(x.shape)), dx) < FLOAT64_TOLERANCE
