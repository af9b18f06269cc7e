"""Element-wise functions: the derivative from what is kept, against finite differences."""

import pytest
import torch

from kilotune.graph.node import ACTIVATION_KEEPS, Activation
from kilotune.ops.elementwise import activate, masked_grad, passes, reduce_to, smooth_grad

# Central differences with h = 1e-5 in float64: h^2/6 of the third derivative (below 1) and 1e-16/h of rounding. The
# derivatives of PyTorch that contain 1/6 have it rounded to float32, 3e-8.
DIFFERENCE_TOLERANCE = 1e-7
STEP = 1e-5


@pytest.mark.parametrize("function", ACTIVATION_KEEPS)
def test_derivatives(function):
    op = Activation(function, 0.2)
    x = torch.linspace(-7, 7, 281, dtype=torch.float64) + 0.0123  # no kink within a step
    slope = (activate(op, x + STEP) - activate(op, x - STEP)) / (2 * STEP)
    y, dy = activate(op, x), torch.linspace(1, 2, 281, dtype=torch.float64)
    if ACTIVATION_KEEPS[function] == "mask":
        found = masked_grad(op, dy, passes(op, y))
    else:
        found = smooth_grad(op, dy, x if ACTIVATION_KEEPS[function] == "input" else y)
    assert float((found - slope * dy).abs().max()) < DIFFERENCE_TOLERANCE


@pytest.mark.parametrize("function", ["relu", "relu6", "leaky_relu", "hardsigmoid"])
def test_kinks_as_in_pytorch(function):
    op = Activation(function, 0.2)
    x = torch.tensor([-3.0, 0.0, 3.0, 6.0], requires_grad=True)
    y = activate(op, x * 1)
    (expected,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(masked_grad(op, torch.ones(4), passes(op, y.detach())), expected)


@pytest.mark.parametrize(
    "function", ["relu", "relu6", "hardswish", "sigmoid", "tanh", "silu", "hardsigmoid", "leaky_relu"]
)
def test_in_place(function):
    op, x = Activation(function, 0.2), torch.randn(100)
    expected = activate(op, x)
    found = activate(op, x, inplace=True)
    assert found.data_ptr() == x.data_ptr()
    assert torch.equal(found, expected)


def test_broadcast_gradients_are_summed():
    gradient = torch.randn(2, 3, 4, dtype=torch.float64)
    assert reduce_to(gradient, (2, 3, 4)) is gradient
    assert torch.allclose(reduce_to(gradient, (3, 1)), gradient.sum((0, 2)).view(3, 1))
