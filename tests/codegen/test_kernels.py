"""Every convolution kernel and the pools against torch in float64, over random geometry, undefined behaviour trapped."""

import ctypes
from fractions import Fraction
from math import exp, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.codegen.numbers import SUFFIX, store
from kilotune.graph.node import Conv2d
from kilotune.memory.rings import ring_elements, rows_in_place, turned
from tests.codegen.kernels import Conv, Pool, make_slice

# Sums of at most a thousand products of numbers of order one, each rounded once in float32.
TOLERANCE = 1e-4


class Problem:
    """A convolution with its tensors, and what torch makes of it."""

    def __init__(self, c, o, size, kernel, stride, padding, dilation, groups, seed):
        draws = np.random.default_rng(seed)
        self.op = Conv2d("w", (o, c // groups, *kernel), None, stride, padding, dilation, groups)
        self.draw = lambda *shape: draws.standard_normal(shape).astype(np.float32)
        self.x, self.weight, self.bias = self.draw(c, *size), self.draw(*self.op.weight_shape), self.draw(o)
        self.size = size
        with torch.enable_grad():
            self.tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (self.x, self.weight)]
            self.y = self.forward(*self.tensors)
        self.dy = self.draw(*self.y.shape)
        top, _, left, _ = padding
        self.geometry = Conv(c, *size, *self.y.shape, groups, *kernel, *stride, *dilation, top, left)

    def forward(self, x, weight):
        top, bottom, left, right = self.op.padding
        padded = F.pad(x[None], (left, right, top, bottom))
        bias = torch.tensor(self.bias, dtype=torch.float64)
        return F.conv2d(padded, weight, bias, self.op.stride, 0, self.op.dilation, self.op.groups)[0]

    def gradients(self):
        dx, dw = torch.autograd.grad(
            self.y, self.tensors, torch.tensor(self.dy, dtype=torch.float64), retain_graph=True
        )
        return dx.numpy(), dw.numpy()

    def ring(self):
        """Enough for both directions."""
        output = tuple(self.y.shape[1:])
        back = turned(self.op)
        sizes = [ring_elements(self.op, self.size, output), ring_elements(back, output, self.size) if back else 0]
        return np.full(max(sizes), np.nan, np.float32)


@st.composite
def problems(draw, kind="any"):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, o = groups * draw(st.integers(1, 6)), groups * draw(st.integers(1, 6))
    kernel, stride = draw(st.tuples(*[st.integers(1, 5)] * 2)), draw(st.tuples(*[st.integers(1, 3)] * 2))
    dilation, padding = draw(st.tuples(*[st.integers(1, 2)] * 2)), draw(st.tuples(*[st.integers(0, 2)] * 4))
    if kind == "depthwise":
        c = o = groups = draw(st.integers(2, 5))
        kernel = draw(st.sampled_from([(3, 3), (5, 5), (7, 7), (3, 5), (2, 2)]))
        dilation, padding = (
            draw(st.sampled_from([(1, 1), (1, 1), (2, 1)])),
            (kernel[0] // 2,) * 2 + (kernel[1] // 2,) * 2,
        )
    if kind == "pointwise":
        groups, kernel, stride, dilation, padding = 1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)
        c, o = draw(st.integers(1, 11)), draw(st.integers(1, 11))
    size = tuple(max(draw(st.integers(1, 9)), (k - 1) * d + 1) for k, d in zip(kernel, dilation, strict=True))
    return Problem(c, o, size, kernel, stride, padding, dilation, groups, draw(st.integers(0, 99)))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(expected).max())))


def name_of(problem, kind):
    return kind if kind in ("pointwise", "depthwise") else "conv2d"


KINDS = pytest.mark.parametrize("kind", ["any", "pointwise", "depthwise"])


@KINDS
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_forward(kernels, kind, data):
    p = data.draw(problems(kind))
    y = np.full(p.y.shape, np.nan, np.float32)
    arguments = (p.geometry, p.x, p.weight, None, p.bias)
    if kind == "depthwise":
        kernels("kt_depthwise_f32", *arguments, None, y, p.ring())
    else:
        kernels(f"kt_{name_of(p, kind)}_f32", *arguments, None, y)
    close(y, p.y.detach().numpy())


@settings(max_examples=40, deadline=None)
@given(problems("depthwise"))
def test_depthwise_in_place(kernels, p):
    output = tuple(p.y.shape[1:])
    if rows_in_place(p.op, p.size, output):
        memory = p.x.copy()
        kernels("kt_depthwise_f32", p.geometry, memory, p.weight, None, p.bias, None, memory, p.ring())
        close(memory.reshape(-1)[: p.y.numel()].reshape(p.y.shape), p.y.detach().numpy())
    back = turned(p.op)
    if back is not None and rows_in_place(back, output, p.size) and p.dy.size >= p.x.size:
        memory = p.dy.copy()
        kernels("kt_depthwise_input_grad_f32", p.geometry, memory, p.weight, None, None, memory, p.ring(), 0)
        close(memory.reshape(-1)[: p.x.size].reshape(p.x.shape), p.gradients()[0])


@KINDS
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_input_gradient(kernels, kind, data):
    p = data.draw(problems(kind))
    for add in (0, 1):
        there = p.draw(*p.x.shape)
        dx = there.copy() if add else np.full_like(p.x, np.nan)
        arguments = (p.geometry, p.dy, p.weight, None)
        if kind == "depthwise":
            kernels("kt_depthwise_input_grad_f32", *arguments, None, dx, p.ring(), add)
        else:
            none = (None,) if kind == "pointwise" else ()
            kernels(f"kt_{name_of(p, kind)}_input_grad_f32", *arguments, *none, dx, add)
        close(dx, p.gradients()[0] + add * there)


@KINDS
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_trained_slices(kernels, kind, data):
    """Forward and input gradient with weight + delta, and the weight gradient of the chosen input channels."""
    p = data.draw(problems(kind))
    chosen = sorted(data.draw(st.sets(st.integers(0, len(p.x) - 1), min_size=1)))
    o, per_group = p.op.weight_shape[0] // p.op.groups, p.op.weight_shape[1]
    index, delta = np.array(chosen, np.uint16), p.draw(len(chosen), o, *p.op.weight_shape[2:])
    gradient, kept = np.zeros_like(delta), np.zeros((len(chosen), *p.size), np.float32)
    piece, scale = make_slice(index, delta, gradient, kept), p.draw(len(p.bias))
    kernels("kt_keep_channels", p.x, piece, p.x[0].size)
    assert (kept == p.x[chosen]).all()
    kernels(f"kt_{'conv2d' if kind == 'depthwise' else name_of(p, kind)}_weight_grad", p.geometry, piece, p.dy, scale)
    changed, expected = p.weight.astype(np.float64), np.zeros(delta.shape)
    for place, channel in enumerate(chosen):
        rows = slice(channel // per_group * o, (channel // per_group + 1) * o)
        changed[rows, channel % per_group] += delta[place]
        expected[place] = p.gradients()[1][rows, channel % per_group] * scale[rows, None, None]
    close(gradient, expected)
    y, dx = np.zeros(p.y.shape, np.float32), np.zeros_like(p.x)
    x, weight = p.tensors[0], torch.tensor(changed)
    if kind == "depthwise":
        kernels("kt_depthwise_f32", p.geometry, p.x, p.weight, None, p.bias, piece, y, p.ring())
        kernels("kt_depthwise_input_grad_f32", p.geometry, p.dy, p.weight, None, piece, dx, p.ring(), 0)
    else:
        name = f"kt_{name_of(p, kind)}"
        kernels(f"{name}_f32", p.geometry, p.x, p.weight, None, p.bias, piece, y)
        inside = (piece,) if kind == "pointwise" else ()
        kernels(f"{name}_input_grad_f32", p.geometry, p.dy, p.weight, None, *inside, dx, 0)
        if not inside:
            kernels(f"{name}_slice_input_grad", p.geometry, p.dy, piece, dx)
    whole = p.forward(x, weight)
    close(y, whole.detach().numpy())
    close(dx, torch.autograd.grad(whole, x, torch.tensor(p.dy, dtype=torch.float64))[0].numpy())


@pytest.mark.parametrize("sizes", [(3, 5), (11, 8), (40, 19), (150, 101)])
def test_a_weight_that_is_all_delta(kernels, other_kernels, sizes):
    """Right, and the bits of a weight of zeros with a delta on it."""
    c, o = sizes
    p = Problem(c, o, (5, 9), (1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0)
    delta = np.ascontiguousarray(p.weight.reshape(o, c).T)
    piece = make_slice(np.arange(c, dtype=np.uint16), delta, delta, delta)
    y, dx, zeros = np.zeros(p.y.shape, np.float32), np.ones_like(p.x), np.zeros_like(p.weight)
    kernels("kt_pointwise_slice", p.geometry, p.x, p.bias, piece, y)
    kernels("kt_pointwise_slice_input_grad", p.geometry, p.dy, piece, dx, 1)
    close(y, p.y.detach().numpy())
    close(dx, p.gradients()[0] + 1)
    for library in (kernels, other_kernels):
        same, back = np.zeros_like(y), np.ones_like(dx)
        library("kt_pointwise_f32", p.geometry, p.x, zeros, None, p.bias, piece, same)
        library("kt_pointwise_input_grad_f32", p.geometry, p.dy, zeros, None, piece, back, 1)
        np.testing.assert_array_equal(same, y)
        np.testing.assert_array_equal(back, dx)


def everything(kernels, p, kind, index):
    """Output, input gradient and weight gradient with some trained channels."""
    o, taps = p.op.weight_shape[0] // p.op.groups, p.op.weight_shape[2:]
    draws = np.random.default_rng(1)
    delta = draws.standard_normal((len(index), o, *taps)).astype(np.float32)
    gradient, kept = np.ones_like(delta), np.ascontiguousarray(p.x[index])
    piece, scale = make_slice(index, delta, gradient, kept), draws.standard_normal(len(p.bias)).astype(np.float32)
    y, dx = np.zeros(p.y.shape, np.float32), np.ones_like(p.x)
    name, ring = f"kt_{name_of(p, kind)}", (p.ring(),) if kind == "depthwise" else ()
    kernels(f"{name}_f32", p.geometry, p.x, p.weight, None, p.bias, piece, y, *ring)
    inside = () if kind == "any" else (piece,)
    kernels(f"{name}_input_grad_f32", p.geometry, p.dy, p.weight, None, *inside, dx, *ring, 1)
    if kind == "any":
        kernels("kt_conv2d_slice_input_grad", p.geometry, p.dy, piece, dx)
    kernels(f"kt_{'pointwise' if kind == 'pointwise' else 'conv2d'}_weight_grad", p.geometry, piece, p.dy, scale)
    return y, dx, gradient


@KINDS
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_same_bits_however_compiled(kernels, other_kernels, kind, data):
    p = data.draw(problems(kind))
    index = np.array(sorted(data.draw(st.sets(st.integers(0, len(p.x) - 1), min_size=1))), np.uint16)
    pairs = zip(everything(kernels, p, kind, index), everything(other_kernels, p, kind, index), strict=True)
    for expected, found in pairs:
        np.testing.assert_array_equal(found, expected)


LARGE = {
    "pointwise": (150, 101, (5, 9), (1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0),
    "any": (40, 19, (23, 20), (3, 3), (2, 2), (1,) * 4, (1, 1), 1, 0),
    "depthwise": (19, 19, (34, 66), (3, 3), (1, 1), (1,) * 4, (1, 1), 19, 0),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_needs_several_blocks(kernels, other_kernels, kind):
    """More depths, columns and planes than one block has: right, and the same bits."""
    p = Problem(*LARGE[kind])
    index = np.arange(0, len(p.x), 2, dtype=np.uint16)
    y = np.zeros(p.y.shape, np.float32)
    ring = (p.ring(),) if kind == "depthwise" else ()
    kernels(f"kt_{name_of(p, kind)}_f32", p.geometry, p.x, p.weight, None, p.bias, None, y, *ring)
    close(y, p.y.detach().numpy())
    pairs = zip(everything(kernels, p, kind, index), everything(other_kernels, p, kind, index), strict=True)
    for expected, found in pairs:
        np.testing.assert_array_equal(found, expected)


def test_a_plane_that_is_too_large_for_a_copy(kernels):
    p = Problem(2, 2, (150, 140), (3, 3), (1, 1), (1,) * 4, (1, 1), 2, 0)
    y, dx = np.zeros(p.y.shape, np.float32), np.zeros_like(p.x)
    kernels("kt_depthwise_f32", p.geometry, p.x, p.weight, None, p.bias, None, y, p.ring())
    kernels("kt_depthwise_input_grad_f32", p.geometry, p.dy, p.weight, None, None, dx, p.ring(), 0)
    close(y, p.y.detach().numpy())
    close(dx, p.gradients()[0])


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_other_number_formats_are_float32_on_what_they_stand_for(kernels, dtype, data):
    """Bit for bit."""
    kind = data.draw(st.sampled_from(["any", "pointwise", "depthwise"]))
    p = data.draw(problems(kind))
    stored, outputs = store(p.weight, dtype), []
    values = stored.values.view(np.uint16) if dtype == "float16" else stored.values
    for suffix, weight, scale in (("f32", stored.numbers, None), (SUFFIX[dtype], values, stored.scale)):
        y, dx = np.zeros(p.y.shape, np.float32), np.zeros_like(p.x)
        name = f"kt_{name_of(p, kind)}"
        rest = (None, y, p.ring()) if kind == "depthwise" else (None, y)
        kernels(f"{name}_{suffix}", p.geometry, p.x, weight, scale, p.bias, *rest)
        rest = {"depthwise": (None, dx, p.ring(), 0), "pointwise": (None, dx, 0), "any": (dx, 0)}[kind]
        kernels(f"{name}_input_grad_{suffix}", p.geometry, p.dy, weight, scale, *rest)
        outputs.append(np.concatenate([y.reshape(-1), dx.reshape(-1)]))
    assert (outputs[0] == outputs[1]).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(3, 8), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_pools(kernels, c, side, k, stride, ceil, seed):
    x = torch.randn(1, c, side, side + 1, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    outputs = {
        "max": F.max_pool2d(x, k, stride, k // 2, ceil_mode=ceil),
        "avg": F.avg_pool2d(x, k, stride, k // 2, ceil_mode=ceil, count_include_pad=ceil),
        "adaptive_avg": F.adaptive_avg_pool2d(x, (2, 3)),
    }
    for name, y in outputs.items():
        window = (1,) * 6 + (0,) * 2 if name == "adaptive_avg" else (k, k, stride, stride, 1, 1, k // 2, k // 2)
        geometry = Pool(c, side, side + 1, *y.shape[2:], *window)
        found, dx = np.zeros(y.shape[1:], np.float32), np.zeros(x.shape[1:], np.float32)
        taps, dy = np.zeros(y.numel(), np.uint8), np.ones(y.shape[1:], np.float32)
        extra = {"max": (taps,), "avg": (int(ceil),), "adaptive_avg": ()}[name]
        kernels(f"kt_{name}_pool", geometry, x.detach().numpy()[0].copy(), found, *extra)
        close(found, y.detach().numpy()[0])
        order = (dy, taps, dx) if name == "max" else (dy, dx, *extra)
        kernels(f"kt_{name}_pool_grad", geometry, *order, 0)
        close(dx, torch.autograd.grad(y.sum(), x, retain_graph=True)[0].numpy()[0])


def test_multiply_add_rounds_once(kernels):
    """The substitute for processors without the instruction, against exact fractions."""
    draws = np.random.default_rng(0)
    numbers = draws.standard_normal((300, 3)).astype(np.float32) * 2.0 ** draws.integers(-40, 40, (300, 3)).astype(
        np.float32
    )
    for a, b, c in numbers.astype(np.float32).tolist():
        found = kernels("kt_fmaf", a, b, c, result=ctypes.c_float)
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        near = np.float32(float(exact))
        around = [
            float(near),
            float(np.nextafter(near, np.float32(np.inf))),
            float(np.nextafter(near, np.float32(-np.inf))),
        ]
        assert abs(Fraction(found) - exact) == min(abs(Fraction(one) - exact) for one in around)


def test_exponential_and_logarithm(kernels):
    """Within two units of the last place."""
    for x in np.linspace(-87, 88, 999, dtype=np.float32).tolist():
        found = kernels("kt_expf", x, result=ctypes.c_float)
        assert abs(found - exp(x)) <= 2 * np.spacing(np.float32(exp(x)))
    for x in np.geomspace(1e-30, 1e30, 999, dtype=np.float32).tolist():
        found = kernels("kt_logf", x, result=ctypes.c_float)
        assert abs(found - log(x)) <= 2 * max(np.spacing(np.float32(abs(log(x)))), 1e-12)
