"""Streamed blocks against the plain kernels one after the other: the same bits, in the scratch that the planner counts."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.codegen.host import compile_objects, link
from kilotune.codegen.project import RUNTIME
from kilotune.graph.node import Conv2d, Node, TensorInfo
from kilotune.graph.node import Input as InputOp
from kilotune.memory.segments import LANES, Block
from tests.codegen.kernels import FLAGS, Conv, Kernels, make_slice

CANARY = np.float32(-7.5)
FILES = ("stream_", "pointwise", "depthwise", "relu6_mask", "line", "fmaf")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Kernels:
    """The kernels of blocks as a library."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("stream")
    files = sorted(path for path in (RUNTIME / "src").glob("*.c") if path.stem[3:].startswith(FILES))
    return Kernels(link(compile_objects(files, RUNTIME / "include", out, FLAGS), out, FLAGS))


class Shape(ctypes.Structure):
    """``kt_block_shape``."""

    _fields_ = [("head", Conv), ("depthwise", Conv), ("projection", Conv), ("high", ctypes.c_float)]


class Layer(ctypes.Structure):
    """``kt_block_layer``."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "scale", "bias", "slice")]


class Case:
    """A block with weights, trained channels in each layer, and everything that the kernels write."""

    def __init__(self, c, mid, o, size, kernel, stride, padding, seed):
        self.draws = np.random.default_rng(seed)
        (h, w), (top, bottom, left, right) = size, padding
        oh, ow = ((n + a + b - kernel) // stride + 1 for n, a, b in ((h, top, bottom), (w, left, right)))
        self.mid, self.o, self.oh, self.ow = mid, o, oh, ow
        self.conv = [
            Conv(c, h, w, mid, h, w, 1, 1, 1, 1, 1, 1, 1, 0, 0),
            Conv(mid, h, w, mid, oh, ow, mid, kernel, kernel, stride, stride, 1, 1, top, left),
            Conv(mid, oh, ow, o, oh, ow, 1, 1, 1, 1, 1, 1, 1, 0, 0),
        ]
        self.x = self.draw(c, h, w)
        self.weights = [self.draw(mid, c), self.draw(mid, kernel, kernel), self.draw(o, mid)]
        self.biases = [self.draw(mid), self.draw(mid), self.draw(o)]
        self.channels = [(c, h * w, mid), (mid, h * w, kernel * kernel), (mid, oh * ow, o)]
        self.block = self._block(c, size, kernel, stride, padding)

    def draw(self, *shape) -> np.ndarray:
        return self.draws.standard_normal(shape).astype(np.float32)

    def _block(self, c, size, kernel, stride, padding) -> Block:
        source = Node("x", InputOp(), (), TensorInfo((1, c, *size)))
        head = Node("head", Conv2d("a", (self.mid, c, 1, 1), None, (1, 1), (0, 0, 0, 0), (1, 1), 1), ("x",),
                    TensorInfo((1, self.mid, *size)))  # fmt: skip
        op = Conv2d("b", (self.mid, 1, kernel, kernel), None, (stride, stride), padding, (1, 1), self.mid)
        depthwise = Node("depthwise", op, ("head",), TensorInfo((1, self.mid, self.oh, self.ow)))
        return Block((head, depthwise, depthwise), head, depthwise, depthwise, source, False)

    def slices(self) -> list:
        """Chosen channels of each layer with deltas; the same ones every time."""
        draws, made = np.random.default_rng(1), []
        self.alive = getattr(self, "alive", [])
        for n, inputs, rows in self.channels:
            index = np.flatnonzero(draws.random(n) < 0.5).astype(np.uint16)
            delta = draws.standard_normal((max(len(index), 1), rows)).astype(np.float32)
            kept = np.zeros((max(len(index), 1), inputs), dtype=np.float32)
            self.alive += [index, delta, kept]
            made.append((make_slice(index, delta, delta, kept), kept, index))
        return made


def plain(kernels: Kernels, case: Case) -> tuple[np.ndarray, ...]:
    """One kernel after the other, every value a whole one."""
    (head, _, _), (depth, kept1, index1), (project, kept2, index2) = case.slices()
    middle, behind = (np.empty((case.mid, g.oh, g.ow), dtype=np.float32) for g in case.conv[:2])
    y = np.empty((case.o, case.oh, case.ow), dtype=np.float32)
    masks = [np.zeros(-(-value.size // 8), dtype=np.uint8) for value in (middle, behind)]
    ring = np.empty(4096, dtype=np.float32)
    kernels("kt_pointwise_f32", case.conv[0], case.x, case.weights[0], None, case.biases[0], head, middle)
    kernels("kt_relu6_mask", middle, middle, masks[0], middle.size)
    kept1[: len(index1)] = middle.reshape(case.mid, -1)[index1]
    kernels("kt_depthwise_f32", case.conv[1], middle, case.weights[1], None, case.biases[1], depth, behind, ring)
    kernels("kt_relu6_mask", behind, behind, masks[1], behind.size)
    kept2[: len(index2)] = behind.reshape(case.mid, -1)[index2]
    kernels("kt_pointwise_f32", case.conv[2], behind, case.weights[2], None, case.biases[2], project, y)
    return y, *masks, kept1, kept2


def streamed(kernels: Kernels, case: Case) -> tuple[np.ndarray, ...]:
    """A few middle channels at a time, in exactly the scratch that is counted."""
    slices = case.slices()
    y = np.empty((case.o, case.oh, case.ow), dtype=np.float32)
    masks = [np.full(-(-case.mid * g.oh * g.ow // 8), 255, dtype=np.uint8) for g in case.conv[:2]]
    n_scratch = case.block.forward_elements("channels")
    scratch = np.full(n_scratch + 16, CANARY)
    layers = (Layer * 3)(
        *(
            Layer(weight.ctypes.data, None, bias.ctypes.data, ctypes.addressof(slices[number][0]))
            for number, (weight, bias) in enumerate(zip(case.weights, case.biases, strict=True))
        )
    )
    pointers = (ctypes.c_void_p * 2)(*(mask.ctypes.data for mask in masks))
    shape = Shape(*case.conv, 6.0)
    kernels("kt_stream_channels_f32", shape, case.x, ctypes.pointer(layers), ctypes.pointer(pointers), y, scratch)
    assert (scratch[n_scratch:] == CANARY).all(), "wrote behind its scratch"
    assert (scratch[:n_scratch] != CANARY).any()
    return y, *masks, slices[1][1], slices[2][1]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(2, 11),
    st.integers(1, 9),
    st.tuples(st.integers(7, 13), st.integers(7, 13)),
    st.sampled_from((3, 5, 7)),
    st.sampled_from((1, 2)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.integers(0, 1000),
)
def test_the_same_bits(kernels, c, mid, o, size, kernel, stride, padding, seed):
    """Outputs, masks and kept channels, with trained channels in all three layers."""
    case = Case(c, mid, o, size, kernel, stride, padding, seed)
    for expected, found in zip(plain(kernels, case), streamed(kernels, case), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_lanes_are_those_of_the_planner():
    text = (RUNTIME / "include" / "kt_stream.h").read_text(encoding="utf-8")
    assert f"#define KT_LANES {LANES} " in text
