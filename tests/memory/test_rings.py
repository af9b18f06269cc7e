"""Depthwise convolutions row by row, against a machine that overwrites one memory and looks at what is still there."""

from hypothesis import given
from hypothesis import strategies as st

from kilotune.graph.node import Conv2d
from kilotune.memory.rings import ring_elements, rows_in_place, turned


@st.composite
def geometries(draw):
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 4)] * 4))
    op = Conv2d("w", (2, 1, *kernel), None, stride, padding, dilation, 2)
    padded = (size[0] + padding[0] + padding[1], size[1] + padding[2] + padding[3])
    output = tuple((n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(padded, kernel, dilation, stride, strict=True))
    return op, size, output


def overwritten_rows(op, size, output):
    """Whether an input row is gone when the ring loads it, for two planes one after another."""
    reach = (op.weight_shape[2] - 1) * op.dilation[0] + 1
    memory = list(range(2 * size[0] * size[1]))
    for plane in range(2):
        loaded = 0
        for row in range(output[0]):
            until = min(size[0], max(0, row * op.stride[0] - op.padding[0] + reach))
            for line in range(loaded, until):
                start = (plane * size[0] + line) * size[1]
                if memory[start : start + size[1]] != list(range(start, start + size[1])):
                    return True
            loaded = max(loaded, until)
            start = (plane * output[0] + row) * output[1]
            if start + output[1] > len(memory):
                return True
            memory[start : start + output[1]] = [-1] * output[1]
    return False


@given(geometries())
def test_rows_in_place(geometry):
    op, size, output = geometry
    if min(output) >= 1 and rows_in_place(op, size, output):
        assert not overwritten_rows(op, size, output)


@given(geometries())
def test_same_size_works_in_place(geometry):
    """What networks have: odd kernels, stride 1, as much padding as the kernel needs."""
    op, size, _ = geometry
    kernel = tuple(2 * (k // 2) + 1 for k in op.weight_shape[2:])
    around = tuple(d * (k // 2) for k, d in zip(kernel, op.dilation, strict=True))
    op = Conv2d("w", (2, 1, *kernel), None, (1, 1), (around[0],) * 2 + (around[1],) * 2, op.dilation, 2)
    assert rows_in_place(op, size, size)
    back = turned(op)
    assert back is not None
    assert (back.padding[0], back.padding[2]) == around
    assert rows_in_place(back, size, size)


def test_figures():
    """3x3 at 64x64: three rows of 66 numbers; strided, the input gradient needs none."""
    op = Conv2d("w", (8, 1, 3, 3), None, (1, 1), (1, 1, 1, 1), (1, 1), 8)
    assert ring_elements(op, (64, 64), (64, 64)) == 3 * 66
    strided = Conv2d("w", (8, 1, 3, 3), None, (2, 2), (1, 1, 1, 1), (1, 1), 8)
    assert ring_elements(strided, (64, 64), (32, 32)) == 3 * 65
    assert turned(strided) is None
