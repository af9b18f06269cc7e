"""Streamed blocks against the plain kernels one after the other: the same bits, in the scratch that the planner counts."""

import ctypes

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.codegen.project import RUNTIME
from kilotune.graph.node import Conv2d, Node, TensorInfo
from kilotune.graph.node import Input as InputOp
from kilotune.memory.segments import LANES, Block
from tests.codegen.kernels import Conv, Kernels, make_slice

CANARY = np.float32(-7.5)
LARGEST = float(np.finfo(np.float32).max)


def structure(name: str, *fields: str, floats: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> type:
    described = [(field, ctypes.c_void_p) for field in fields]
    described += [(field, ctypes.c_float) for field in floats] + [(field, ctypes.c_uint16) for field in numbers]
    return type(name, (ctypes.Structure,), {"_fields_": described})


Shape = structure("kt_block_shape", "head", "depthwise", "projection")
Layer = structure(
    "kt_block_layer", "take", "weight", "scale", "patterns", "bias", "slice", "mask", floats=("low", "high")
)
TRAINED = ("layer", "scale", "norms", "bias", "bias_gradient", "bias_velocity", "bias_scale")
Trained = structure("kt_block_trained", *TRAINED)
Rows = structure("kt_block_rows", "make", "before", "g", "layers", "source", "scratch", numbers=("n_source",))
Bytes = structure("kt_byte_rows", "make", "bytes", "values", numbers=("c", "h", "w", "step"))


class LayerRow(ctypes.Structure):
    """``kt_layer``."""

    _fields_ = [("weight", ctypes.c_uint32), ("channel_inputs", ctypes.c_uint32)] + [
        (name, ctypes.c_uint16) for name in ("channels", "rows", "kernel", "groups")
    ]


class Case:
    """A block with weights, trained channels in each layer, and everything that the kernels write."""

    def __init__(self, c, mid, o, size, kernel, stride, padding, seed, head=(1, 1, 0)):
        self.draws = np.random.default_rng(seed)
        (h, w), (top, bottom, left, right), (k, step, around) = size, padding, head
        mh, mw = ((n + 2 * around - k) // step + 1 for n in (h, w))
        oh, ow = ((n + a + b - kernel) // stride + 1 for n, a, b in ((mh, top, bottom), (mw, left, right)))
        self.c, self.mid, self.o, self.oh, self.ow, self.mh, self.mw = c, mid, o, oh, ow, mh, mw
        self.conv = [
            Conv(c, h, w, mid, mh, mw, 1, k, k, step, step, 1, 1, around, around),
            Conv(mid, mh, mw, mid, oh, ow, mid, kernel, kernel, stride, stride, 1, 1, top, left),
            Conv(mid, oh, ow, o, oh, ow, 1, 1, 1, 1, 1, 1, 1, 0, 0),
        ]
        self.weights = [self.draw(mid, c, k, k), self.draw(mid, kernel, kernel), self.draw(o, mid)]
        self.biases = [self.draw(mid), self.draw(mid), self.draw(o)]
        self.channels = [(c, h * w, mid), (mid, mh * mw, kernel * kernel), (mid, oh * ow, o)]
        self.x, self.dy = self.draw(c, h, w), self.draw(o, oh, ow)
        self.block = self._block(size, kernel, stride, padding, head)
        self.alive: list = []

    def draw(self, *shape) -> np.ndarray:
        return self.draws.standard_normal(shape).astype(np.float32)

    def _block(self, size, kernel, stride, padding, wide) -> Block:
        source, (k, step, around) = Node("x", InputOp(), (), TensorInfo((1, self.c, *size))), wide
        op = Conv2d("a", (self.mid, self.c, k, k), None, (step, step), (around,) * 4, (1, 1), 1)
        head = Node("head", op, ("x",), TensorInfo((1, self.mid, self.mh, self.mw)))
        op = Conv2d("b", (self.mid, 1, kernel, kernel), None, (stride, stride), padding, (1, 1), self.mid)
        depthwise = Node("depthwise", op, ("head",), TensorInfo((1, self.mid, self.oh, self.ow)))
        return Block((head, depthwise, depthwise), head, depthwise, depthwise, source, False)

    def slices(self) -> list:
        """Chosen channels of each layer with deltas, sums of gradients and kept inputs; the same ones every time."""
        draws, made = np.random.default_rng(1), []
        for n, inputs, rows in self.channels:
            index = np.flatnonzero(draws.random(n) < 0.5).astype(np.uint16)
            shape = (max(len(index), 1), rows)
            delta, gradient = (draws.standard_normal(shape).astype(np.float32) for _ in range(2))
            kept = draws.standard_normal((shape[0], inputs)).astype(np.float32)
            self.alive += [index, delta, gradient, kept]
            made.append((make_slice(index, delta, gradient, kept), kept, index, gradient))
        return made

    def masks(self) -> list[np.ndarray]:
        sizes = (self.mid * self.mh * self.mw, self.mid * self.oh * self.ow)
        return [np.random.default_rng(2).integers(0, 256, -(-size // 8)).astype(np.uint8) for size in sizes]

    def shape(self) -> Shape:
        return Shape(*(ctypes.addressof(conv) for conv in self.conv))

    def layers(self, kernels: Kernels, slices: list, masks: list) -> ctypes.Array:
        """The block as the kernels see it."""
        take = ctypes.cast(kernels._c.kt_take_f32, ctypes.c_void_p).value
        rows = []
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            mask = masks[place].ctypes.data if masks and place < 2 else None
            piece = ctypes.addressof(slices[place][0]) if slices else None
            low, high = (0.0, 6.0) if place < 2 else (-LARGEST, LARGEST)
            rows.append(Layer(take, weight.ctypes.data, None, None, bias.ctypes.data, piece, mask, low, high))
        return (Layer * 3)(*rows)

    def scratch(self, elements: int) -> np.ndarray:
        return np.full(elements + 16, CANARY)


def untouched(scratch: np.ndarray, elements: int) -> None:
    assert (scratch[elements:] == CANARY).all(), "wrote behind its scratch"
    assert (scratch[:elements] != CANARY).any()


def plain(kernels: Kernels, case: Case, trained: bool = True) -> tuple[np.ndarray, ...]:
    """One kernel after the other, every value a whole one."""
    (head, *_), (depth, kept1, index1, _), (project, kept2, index2, _) = case.slices()
    head, depth, project = (head, depth, project) if trained else (None, None, None)
    middle, behind = (np.empty((case.mid, g.oh, g.ow), dtype=np.float32) for g in case.conv[:2])
    y = np.empty((case.o, case.oh, case.ow), dtype=np.float32)
    masks, ring = case.masks(), np.empty(4096, dtype=np.float32)
    kind = "pointwise" if case.conv[0].kh == 1 else "conv2d"
    kernels(f"kt_{kind}_f32", case.conv[0], case.x, case.weights[0], None, case.biases[0], head, middle)
    kernels("kt_relu6_mask", middle, middle, masks[0], middle.size)
    kept1[: len(index1)] = middle.reshape(case.mid, -1)[index1]
    kernels("kt_depthwise_f32", case.conv[1], middle, case.weights[1], None, case.biases[1], depth, behind, ring)
    kernels("kt_relu6_mask", behind, behind, masks[1], behind.size)
    kept2[: len(index2)] = behind.reshape(case.mid, -1)[index2]
    kernels("kt_pointwise_f32", case.conv[2], behind, case.weights[2], None, case.biases[2], project, y)
    return y, *masks, kept1, kept2


def streamed(kernels: Kernels, case: Case) -> tuple[np.ndarray, ...]:
    """A few middle channels at a time, in exactly the scratch that is counted."""
    slices, masks = case.slices(), case.masks()
    y = np.empty((case.o, case.oh, case.ow), dtype=np.float32)
    n_scratch = case.block.forward_elements("channels")
    scratch = case.scratch(n_scratch)
    kernels("kt_stream_channels", case.shape(), case.x, case.layers(kernels, slices, masks), y, scratch)
    untouched(scratch, n_scratch)
    return y, *masks, slices[1][1], slices[2][1]


geometry = (
    st.integers(1, 9),
    st.integers(2, 11),
    st.integers(1, 9),
    st.tuples(st.integers(7, 13), st.integers(7, 13)),
    st.sampled_from((3, 5, 7)),
    st.sampled_from((1, 2)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.integers(0, 1000),
)


@settings(max_examples=60, deadline=None)
@given(*geometry)
def test_the_same_bits(kernels, c, mid, o, size, kernel, stride, padding, seed):
    """Outputs, masks and kept channels, with trained channels in all three layers."""
    case = Case(c, mid, o, size, kernel, stride, padding, seed)
    for expected, found in zip(plain(kernels, case), streamed(kernels, case), strict=True):
        np.testing.assert_array_equal(found, expected)


def plain_backward(kernels: Kernels, case: Case, add: int) -> tuple[np.ndarray, ...]:
    """Gradients of the source, of what is trained of head and depthwise convolution, and of their biases."""
    (head, *_, sums0), (depth, *_, sums1), (project, *_) = case.slices()
    masks, ring = case.masks(), np.empty(4096, dtype=np.float32)
    behind, middle = (np.empty((case.mid, g.oh, g.ow), dtype=np.float32) for g in case.conv[1::-1])
    dx, biases = np.ones_like(case.x), [np.ones(case.mid, np.float32) for _ in range(2)]
    kernels("kt_pointwise_input_grad_f32", case.conv[2], case.dy, case.weights[2], None, project, behind, 0)
    kernels("kt_mask_grad", behind, masks[1], behind, behind.size, 0)
    kernels("kt_conv2d_weight_grad", case.conv[1], depth, behind, None)
    kernels("kt_bias_grad", behind, None, biases[1], case.mid, case.oh * case.ow)
    kernels("kt_depthwise_input_grad_f32", case.conv[1], behind, case.weights[1], None, depth, middle, ring, 0)
    kernels("kt_mask_grad", middle, masks[0], middle, middle.size, 0)
    kernels("kt_pointwise_weight_grad", case.conv[0], head, middle, None)
    kernels("kt_bias_grad", middle, None, biases[0], case.mid, case.mh * case.mw)
    kernels("kt_pointwise_input_grad_f32", case.conv[0], middle, case.weights[0], None, head, dx, add)
    return dx, sums0, sums1, *biases


def streamed_backward(kernels: Kernels, case: Case, add: int) -> tuple[np.ndarray, ...]:
    slices, masks = case.slices(), case.masks()
    dx, biases = np.ones_like(case.x), [np.ones(case.mid, np.float32) for _ in range(2)]
    table = [
        LayerRow(0, inputs, n, rows if place == 0 else 1, 1 if place == 0 else rows, 1 if place == 0 else n)
        for place, (n, inputs, rows) in enumerate(case.channels[:2])
    ]
    trained = (Trained * 2)(
        *(
            Trained(ctypes.addressof(row), None, None, bias.ctypes.data, bias.ctypes.data, None, None)
            for row, bias in zip(table, biases, strict=True)
        )
    )
    n_scratch = case.block.backward_elements
    scratch = case.scratch(n_scratch)
    layers = case.layers(kernels, slices, masks)
    kernels("kt_stream_channels_grad", case.shape(), case.dy, layers, trained, dx, scratch, add)
    untouched(scratch, n_scratch)
    return dx, slices[0][3], slices[1][3], *biases


@settings(max_examples=60, deadline=None)
@given(*geometry, st.sampled_from((0, 1)))
def test_the_same_gradients(kernels, c, mid, o, size, kernel, stride, padding, seed, add):
    case = Case(c, mid, o, size, kernel, stride, padding, seed)
    expected, found = plain_backward(kernels, case, add), streamed_backward(kernels, case, add)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(*geometry, st.sampled_from(((1, 1, 0), (3, 1, 1), (3, 2, 1))), st.sampled_from(("lines", "again")))
def test_the_same_rows(kernels, c, mid, o, size, kernel, stride, padding, seed, head, mode):
    """A block that pulls rows of an image of bytes."""
    size = (size[0] + 8, size[1] + 8)
    case = Case(c, mid, o, size, kernel, stride, padding, seed, head)
    image = case.draws.integers(0, 256, (c, *size)).astype(np.uint8)
    values = case.draw(c, 256)
    case.x = np.ascontiguousarray(np.stack([values[channel][image[channel]] for channel in range(c)]))
    expected = plain(kernels, case, trained=False)[0]
    n_source, n_scratch = case.block.source_rows(mode), case.block.forward_elements(mode)
    source, scratch = case.scratch(n_source * c * size[1]), case.scratch(n_scratch)
    address = [
        ctypes.cast(getattr(kernels._c, f"kt_rows_{name}"), ctypes.c_void_p).value for name in ("of_bytes", mode)
    ]
    first = Bytes(address[0], image.ctypes.data, values.ctypes.data, c, *size, 256)
    shape, layers = case.shape(), case.layers(kernels, [], [])
    places = (ctypes.addressof(shape), ctypes.addressof(layers), source.ctypes.data, scratch.ctypes.data)
    rows = Rows(address[1], ctypes.addressof(first), *places, n_source)
    y = np.empty_like(expected)
    kernels("kt_stream_rows", rows, case.oh, case.ow, y)
    np.testing.assert_array_equal(y, expected)
    untouched(scratch, n_scratch)
    untouched(source, n_source * c * size[1])


def test_lanes_are_those_of_the_planner():
    text = (RUNTIME / "include" / "kt_stream.h").read_text(encoding="utf-8")
    assert f"#define KT_LANES {LANES} " in text
