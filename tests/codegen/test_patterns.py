"""Kernels with patterns: of the taps alone the bits that ordinary kernels make of weights with zeros at all other places."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.codegen.numbers import SUFFIX, Folded, at_places, store
from kilotune.graph.patterns import n_taps, patterns
from tests.codegen.kernels import make_slice
from tests.codegen.test_kernels import Problem


class Patterns(ctypes.Structure):
    """``kt_patterns``."""

    _fields_ = [("number", ctypes.c_void_p), ("places", ctypes.c_void_p), ("taps", ctypes.c_uint8)]


class Patterned(Problem):
    """A convolution with a random pattern for each kernel, and trained channels or neurons, with zeros and without."""

    def __init__(self, c, o, size, side, stride, padding, dilation, groups, seed):
        super().__init__(c, o, size, (side, side), stride, padding, dilation, groups, seed)
        draws, self.side, self.groups = np.random.default_rng(seed), side, groups
        self.pattern = draws.integers(len(patterns(side)), size=self.op.weight_shape[:2], dtype=np.uint8)
        self.places = Folded(self.weight, self.bias, pattern=self.pattern).places
        self.weight = self.whole(at_places(self.weight, self.places), self.places)
        self.table = np.array(patterns(side), np.uint8)
        self.patterns = Patterns(self.pattern.ctypes.data, self.table.ctypes.data, n_taps(side))
        self.scale = self.draw(o)

    def whole(self, taps: np.ndarray, places: np.ndarray) -> np.ndarray:
        """(a, b, t) numbers at (a, b, t) places of kernels (a, b, side, side), zeros elsewhere."""
        made = np.zeros((*places.shape[:2], self.side**2), taps.dtype)
        np.put_along_axis(made, places, taps, 2)
        return made.reshape(*places.shape[:2], self.side, self.side)

    def slice_places(self, index: np.ndarray, axis: str) -> np.ndarray:
        """(count, rows, t) of the kernels of a slice."""
        if axis == "out":
            return self.places[index]
        grouped = self.places.reshape(self.groups, -1, *self.places.shape[1:])
        per_group = self.places.shape[1]
        return grouped[index // per_group, :, index % per_group]

    def geometry_suffix(self, dtype: str, taps: bool) -> tuple[str, tuple]:
        """How kernels end, and (weight, scale[, patterns])."""
        stored = store(self.weight, dtype)
        weight = at_places(stored.values, self.places) if taps else stored.values
        weight = np.ascontiguousarray(weight.view(np.uint16) if dtype == "float16" else weight)
        suffix = f"{'taps_' * taps}{SUFFIX[dtype]}"
        return suffix, (weight, stored.scale, *(self.patterns,) * taps)


@st.composite
def problems(draw, depthwise):
    groups = draw(st.integers(1, 3))
    c, o = (groups * draw(st.integers(1, 5)) for _ in range(2))
    if depthwise:
        c = o = groups = draw(st.integers(2, 9))
    side, stride = draw(st.sampled_from([3, 3, 5, 7])), draw(st.tuples(*[st.integers(1, 2)] * 2))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1)]))
    padding = (side // 2,) * 4 if depthwise else draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = tuple(max(draw(st.integers(1, 18)), (side - 1) * d + 1) for d in dilation)
    return Patterned(c, o, size, side, stride, padding, dilation, groups, draw(st.integers(0, 99)))


def everything(library, p: Patterned, depthwise: bool, index: np.ndarray, dtype: str, taps: bool) -> list[np.ndarray]:
    """Output, input gradient and weight gradient at the taps with some trained channels."""
    places = p.slice_places(index, "in")
    delta = np.random.default_rng(1).standard_normal(places.shape).astype(np.float32)
    delta, only = (delta, (p.patterns,)) if taps else (p.whole(delta, places), ())
    gradient, kept, ring = np.ones_like(delta), np.ascontiguousarray(p.x[index]), (p.ring(),) if depthwise else ()
    piece, kind = make_slice(index, delta, gradient, kept), "depthwise" if depthwise else "conv2d"
    y, dx = np.zeros(p.y.shape, np.float32), np.ones_like(p.x)
    suffix, weight = p.geometry_suffix(dtype, taps)
    inside, end = (piece,) if depthwise else (), "_taps" * taps
    library(f"kt_{kind}_{suffix}", p.geometry, p.x, *weight, p.bias, piece, y, *ring)
    library(f"kt_{kind}_input_grad_{suffix}", p.geometry, p.dy, *weight, *inside, dx, *ring, 1)
    if not depthwise:
        library(f"kt_conv2d_slice_input_grad{end}", p.geometry, p.dy, piece, *only, dx)
    library(f"kt_conv2d_weight_grad{end}", p.geometry, piece, *only, p.dy, p.scale)
    return [y, dx, gradient if taps else at_places(gradient, places)]


def neurons(library, p: Patterned, index: np.ndarray, taps: bool) -> list[np.ndarray]:
    """What trained output neurons add to output and input gradient, and their weight gradient at the taps."""
    places = p.slice_places(index, "out")
    delta = np.random.default_rng(1).standard_normal(places.shape).astype(np.float32)
    delta, only = (delta, (p.patterns,)) if taps else (p.whole(delta, places), ())
    gradient, end = np.ones_like(delta), "_taps" * taps
    piece = make_slice(index, delta, gradient, p.x)
    y, dx = np.ones(p.y.shape, np.float32), np.ones_like(p.x)
    library(f"kt_conv2d_neurons{end}", p.geometry, p.x, piece, *only, y)
    library(f"kt_conv2d_neurons_input_grad{end}", p.geometry, p.dy, piece, *only, dx)
    library(f"kt_conv2d_neurons_weight_grad{end}", p.geometry, piece, *only, p.dy, p.scale)
    return [y, dx, gradient if taps else at_places(gradient, places)]


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def some_of(data, n: int) -> np.ndarray:
    return np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))), np.uint16)


@pytest.mark.parametrize("depthwise", [True, False])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_bits_of_kernels_with_zeros(kernels, depthwise, data):
    p, dtype = data.draw(problems(depthwise)), data.draw(st.sampled_from(list(SUFFIX)))
    index = some_of(data, len(p.x))
    ordinary = everything(kernels, p, depthwise, index, dtype, taps=False)
    same(everything(kernels, p, depthwise, index, dtype, taps=True), ordinary)


@pytest.mark.parametrize("depthwise", [True, False])
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_same_bits_however_compiled(kernels, other_kernels, depthwise, data):
    p = data.draw(problems(depthwise))
    index = some_of(data, len(p.x))
    expected = everything(kernels, p, depthwise, index, "float32", taps=True)
    same(everything(other_kernels, p, depthwise, index, "float32", taps=True), expected)


@settings(max_examples=40, deadline=None)
@given(problems(depthwise=False), st.data())
def test_output_neurons(kernels, p, data):
    index = some_of(data, len(p.bias))
    same(neurons(kernels, p, index, taps=True), neurons(kernels, p, index, taps=False))


def test_what_needs_several_blocks(kernels, other_kernels):
    """More depths, columns and planes than one block has."""
    for depthwise, size in ((False, (40, 19, (23, 20))), (True, (19, 19, (34, 66)))):
        p = Patterned(*size, 3, (1, 1), (1,) * 4, (1, 1), 19 if depthwise else 1, 0)
        index = np.arange(0, len(p.x), 2, dtype=np.uint16)
        expected = everything(kernels, p, depthwise, index, "float32", taps=False)
        for library in (kernels, other_kernels):
            same(everything(library, p, depthwise, index, "float32", taps=True), expected)


def test_a_plane_that_is_too_large_for_a_copy(kernels):
    p = Patterned(2, 2, (150, 140), 3, (1, 1), (1,) * 4, (1, 1), 2, 0)
    index = np.array([1], np.uint16)
    ordinary = everything(kernels, p, True, index, "float32", taps=False)
    same(everything(kernels, p, True, index, "float32", taps=True), ordinary)
