"""Kernels of attention, norms and views against torch in float64, over random geometry."""

from itertools import pairwise, permutations
from math import erfc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.codegen.views import broadcast_strides, strides, view
from kilotune.errors import ExportError
from tests.codegen.kernels import make_slice
from tests.codegen.test_kernels import close

SIZES = st.integers(1, 6)


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gradient(function, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    with torch.enable_grad():
        x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(function(x), x, torch.tensor(dy, dtype=torch.float64))[0].numpy()


def both(forward, backward, function, x, add):
    """A kernel and its gradient, ``forward(x, y)`` and ``backward(dy, y, dx, add)``, against ``function``."""
    expected = function(torch.tensor(x, dtype=torch.float64)).numpy()
    y, dy, there = np.zeros(expected.shape, np.float32), numbers(1, *expected.shape), numbers(2, *x.shape)
    forward(x, y)
    close(y, expected)
    dx = there.copy()
    backward(dy, y, dx, add)
    close(dx, gradient(function, x, dy) + add * there)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(2, 9), SIZES, st.integers(0, 1), st.integers(0, 99))
def test_softmax(kernels, m, n, inner, add, seed):
    both(
        lambda x, y: kernels("kt_softmax", x, y, m, n, inner),
        lambda dy, y, dx, add: kernels("kt_softmax_grad", dy, y, dx, m, n, inner, add),
        lambda x: x.softmax(1),
        3 * numbers(seed, m, n, inner),
        add,
    )


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(2, 9), st.integers(0, 1), st.integers(0, 99))
def test_layer_norm(kernels, m, n, add, seed):
    weight, bias, x = numbers(3, n), numbers(4, n), 1 + numbers(seed, m, n)
    tensors = [torch.tensor(array, dtype=torch.float64) for array in (weight, bias)]

    def norm(x):
        return F.layer_norm(x, (n,), *tensors, 0.1)

    both(
        lambda x, y: kernels("kt_layer_norm", x, weight, bias, y, m, n, 0.1),
        lambda dy, y, dx, add: kernels("kt_layer_norm_grad", dy, x, weight, dx, m, n, 0.1, add),
        norm,
        x,
        add,
    )
    order, index = np.random.default_rng(seed).permutation(m).astype(np.uint16), np.arange(0, n, 2, np.uint16)
    kept = np.zeros((m, len(index)), np.float32)
    piece = make_slice(index, kept, kept, kept)
    kernels("kt_layer_norm_features", x, order, weight, bias, piece, m, n, 0.1)
    close(kept, norm(torch.tensor(x, dtype=torch.float64)).numpy()[order][:, index])


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 1), st.integers(0, 99))
def test_gelu(kernels, name, m, n, add, seed):
    approximate, x = "tanh" if name == "gelu_tanh" else "none", 3 * numbers(seed, m, n)

    def gelu(x):
        return F.gelu(x, approximate=approximate)

    both(
        lambda x, y: kernels(f"kt_{name}", x, y, m * n),
        lambda dy, y, dx, add: kernels(f"kt_{name}_grad", dy, x, dx, m * n, add),
        gelu,
        x,
        add,
    )
    order, index = np.arange(m, dtype=np.uint16)[::-1].copy(), np.arange(n - 1, n, dtype=np.uint16)
    kept = np.zeros((m, 1), np.float32)
    piece = make_slice(index, kept, kept, kept)
    kernels(f"kt_{name}_features", x, order, piece, m, n)
    close(kept, gelu(torch.tensor(x, dtype=torch.float64)).numpy()[::-1, -1:])


def test_gelu_is_accurate_far_out(kernels):
    """Where it almost vanishes too, relative to the number itself; the exponent, about 32 there, has errors of float32."""
    x = np.linspace(-8, 8, 999, dtype=np.float32)
    y = np.zeros_like(x)
    kernels("kt_gelu", x, y, len(x))
    expected = np.array([v * erfc(-v / 2**0.5) / 2 for v in x.tolist()])
    assert float((np.abs(y - expected) / np.maximum(np.abs(expected), 1e-30)).max()) < 1e-5


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 1), st.integers(0, 99))
def test_products(kernels, times, m, k, n, add, seed):
    a, b, there = numbers(seed, times, m, k), numbers(seed + 1, times, k, n), numbers(3, times, m, n)
    expected = 0.5 * (a.astype(np.float64) @ b) + add * there
    for name, left, right in (
        ("kt_matmul", a, b),
        ("kt_matmul_bt", a, b.transpose(0, 2, 1).copy()),
        ("kt_matmul_at", a.transpose(0, 2, 1).copy(), b),
    ):
        y = there.copy()
        kernels(name, left, right, y, times, m, k, n, 0.5, add)
        close(y, expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 1), st.data())
def test_axes_in_another_order(kernels, shape, add, data):
    axes = data.draw(st.permutations(range(len(shape))))
    x = numbers(0, *shape)
    there = numbers(1, *(shape[axis] for axis in axes))
    y, back = there.copy(), x.copy()
    steps = [strides(shape)[axis] for axis in axes]
    kernels("kt_copy_view", view(y.shape, steps, strides(y.shape)), x, y, add)
    np.testing.assert_array_equal(y, x.transpose(axes) + add * there)
    kernels("kt_copy_view", view(y.shape, strides(y.shape), steps), there, back, 0)
    np.testing.assert_array_equal(back.transpose(axes), there)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=5), st.integers(0, 2))
def test_repeated_values_and_their_gradient(kernels, axes, missing):
    shape = [size for size, _ in axes]
    narrow = [1 if repeated else size for size, repeated in axes][min(missing, len(axes) - 1) :]
    x, y, dx = numbers(0, *narrow), np.zeros(shape, np.float32), np.zeros(narrow, np.float32)
    steps = broadcast_strides(narrow, shape)
    kernels("kt_copy_view", view(shape, steps, strides(shape)), x, y, 0)
    np.testing.assert_array_equal(y, np.broadcast_to(x, shape))
    dy = numbers(1, *shape)
    kernels("kt_copy_view", view(shape, strides(shape), steps), dy, dx, 1)
    close(dx, torch.tensor(dy, dtype=torch.float64).sum_to_size(narrow).numpy())


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, SIZES, st.integers(0, 1))
def test_mean_of_rows(kernels, m, n, inner, add):
    both(
        lambda x, y: kernels("kt_mean_rows", x, y, m, n, inner),
        lambda dy, y, dx, add: kernels("kt_mean_rows_grad", dy, dx, m, n, inner, add),
        lambda x: x.mean(1),
        numbers(0, m, n, inner),
        add,
    )


def test_rows_taken(kernels):
    x, y = numbers(0, 4, 3), np.zeros((4, 3), np.float32)
    kernels("kt_take_rows", x, np.array([2, 0, 3, 1], np.uint16), y, 4, 3)
    np.testing.assert_array_equal(y, x[[2, 0, 3, 1]])


def test_neighbours_are_joined_and_seven_axes_refused():
    assert view((2, 3, 4), (12, 4, 1), (12, 4, 1))[0].tolist() == [1, 1, 1, 1, 1, 24]
    order = next(order for order in permutations(range(7)) if all(abs(a - b) > 1 for a, b in pairwise(order)))
    steps = strides((2,) * 7)
    with pytest.raises(ExportError, match="7 axes are exchanged at once, a device has 6"):
        view((2,) * 7, [steps[axis] for axis in order], steps)
