"""Kernels of trained output neurons against torch in float64, over random geometry."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.kernels import make_slice
from tests.codegen.test_kernels import close, problems


def chosen_rows(data, n: int) -> list[int]:
    return sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))


@settings(max_examples=40, deadline=None)
@given(problems(), st.data())
def test_convolutions(kernels, p, data):
    """Forward and input gradient with weight + delta, and the weight gradient of the chosen neurons."""
    chosen = chosen_rows(data, len(p.bias))
    delta, scale = p.draw(len(chosen), *p.op.weight_shape[1:]), p.draw(len(p.bias))
    gradient, there = np.zeros_like(delta), p.draw(*p.x.shape)
    index = np.array(chosen, np.uint16)
    piece = make_slice(index, delta, gradient, p.x)
    kernels("kt_conv2d_neurons_weight_grad", p.geometry, piece, p.dy, scale)
    close(gradient, p.gradients()[1][chosen] * scale[chosen, None, None, None])
    y, dx = p.y.detach().numpy().astype(np.float32), there.copy()
    kernels("kt_conv2d_neurons", p.geometry, p.x, piece, y)
    kernels("kt_conv2d_neurons_input_grad", p.geometry, p.dy, piece, dx)
    changed = p.weight.astype(np.float64)
    changed[chosen] += delta
    whole = p.forward(p.tensors[0], torch.tensor(changed))
    close(y, whole.detach().numpy())
    expected = torch.autograd.grad(whole, p.tensors[0], torch.tensor(p.dy, dtype=torch.float64))[0].numpy()
    close(dx, there + expected - p.gradients()[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.data())
def test_linear_layers(kernels, n, c, o, seed, data):
    draws = np.random.default_rng(seed)
    x, dy, y, dx, scale = (
        draws.standard_normal(shape).astype(np.float32) for shape in ((n, c), (n, o), (n, o), (n, c), o)
    )
    chosen = chosen_rows(data, o)
    delta = draws.standard_normal((len(chosen), c)).astype(np.float32)
    gradient, before = np.zeros_like(delta), (y.copy(), dx.copy())
    index = np.array(chosen, np.uint16)
    piece = make_slice(index, delta, gradient, x)
    kernels("kt_linear_neurons", x, piece, y, n, c, o)
    kernels("kt_linear_neurons_input_grad", dy, piece, dx, n, c, o)
    kernels("kt_linear_neurons_weight_grad", piece, dy, scale, n, c, o)
    expected = before[0].astype(np.float64)
    expected[:, chosen] += x @ delta.T
    close(y, expected)
    close(dx, before[1] + dy[:, chosen].astype(np.float64) @ delta)
    close(gradient, (dy * scale)[:, chosen].T.astype(np.float64) @ x)
