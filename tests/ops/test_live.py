"""Trained slices of every kind of layer get the gradient of dense autograd, however much of the input was kept."""

import pytest
import torch
from torch import nn

from kilotune.graph.node import Conv2d, Linear
from kilotune.graph.patterns import patterns
from kilotune.ops.live import live_grad
from kilotune.ops.slices import Slice
from kilotune.update_plan import ChannelSet
from tests.oracles.dense import FLOAT64_TOLERANCE, relative_error

CHOSEN = ChannelSet("l", "in", (0, 2))
CONV = ("w", (4, 1, 3, 3), None, (1, 1), (1, 1, 1, 1), (1, 1), 4)


@pytest.mark.parametrize(
    ("op", "run"),
    [
        (Linear("w", (5, 4), None), lambda x, w: nn.functional.linear(x, w)),
        (Conv2d(*CONV), lambda x, w: nn.functional.conv2d(x, w, padding=1, groups=4)),
        (Conv2d(*CONV, pattern="p"), lambda x, w: nn.functional.conv2d(x, w, padding=1, groups=4)),
    ],
    ids=["linear", "convolution", "patterned"],
)
@pytest.mark.parametrize("sliced", [True, False])
def test_gradient_of_a_slice(op, run, sliced):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(op.weight_shape, dtype=torch.float64, generator=generator, requires_grad=True)
    numbers = torch.arange(4, dtype=torch.uint8)[:, None] % len(patterns(3))
    shape = (3, 4) if isinstance(op, Linear) else (3, 4, 5, 6)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    y = run(x, weight)
    dy = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    y.backward(dy)
    piece = Slice.of(op, CHOSEN, {"w": weight.detach(), "p": numbers})
    kept = x[:, list(CHOSEN.indices)] if sliced else x
    assert relative_error(live_grad(op, piece, kept, dy, sliced), piece.cut(weight.grad)) < FLOAT64_TOLERANCE
