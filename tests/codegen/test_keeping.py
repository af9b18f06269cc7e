"""What is kept of an input, to the bit as PyTorch keeps it; and weight gradients of a few channels at a time, to the bit."""

import ctypes
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kilotune.deploy.noise import DeviceNoise, Seen
from kilotune.graph.node import Conv2d
from kilotune.graph.ways import Patterned, Pruned, parse_way
from kilotune.ops import patches
from kilotune.ops.ways import WAYS
from tests.codegen.kernels import Conv, Kernels, Slice, make_slice
from tests.codegen.test_kernels import close, problems
from tests.oracles import places

SEED, SEEN = 0x1234_5678_9ABC_DEF0, 3


def one_sample(data, text: str, kind: str):
    """(place, x, dy) of a layer that trains input channels, at batch 1."""
    where, x, dy = data.draw(getattr(places, kind)(text, torch.float32))
    if where.slice.chosen.axis == "out":
        chosen = where.slice.chosen._replace(axis="in", indices=tuple(range(where.compressed.modes.channels)))
        where = places.place(where.op, where.compressed.modes, text, chosen)
    where.memory.noise = DeviceNoise(SEED, Seen(SEEN))
    return where, x[:1].contiguous(), dy[:1].contiguous()


def steps(where, x) -> tuple[int, int, int]:
    """Elements of a channel, and how far apart channels and elements are."""
    n = where.compressed.modes.positions(1)
    return (n, n, 1) if isinstance(where.op, Conv2d) else (n, 1, x.shape[-1])


def kept_by(kernels: Kernels, where, x) -> tuple[Slice, list[np.ndarray]]:
    """A slice whose kernel has kept its input in exactly the elements of the ledger; and its arrays."""
    index = np.array(where.slice.chosen.indices, np.uint16)
    kept = np.full(where.compressed.elements(1), np.nan, np.float32)
    piece = make_slice(index, index, index, kept)
    kernels(f"kt_keep_{where.way.name}", x.numpy(), piece, *ways_own(where, x))
    return piece, [index, kept]


def ways_own(where, x) -> tuple[object, ...]:
    """What the kernel of a way is told of the layer."""
    if isinstance(where.way, Patterned):
        return (*x.shape[2:], where.way.taps)
    values = (
        where.way.values(where.compressed.modes.positions(1))
        if isinstance(where.way, Pruned)
        else ctypes.c_uint64(SEED + SEEN)
    )
    return (*steps(where, x), values)


def restored(kernels: Kernels, where, piece: Slice, k: int, count: int) -> np.ndarray:
    """Channels k and on, (count, n)."""
    n = where.compressed.modes.positions(1)
    sizes = (*where.compressed.modes.sizes[2:], where.way.taps) if isinstance(where.way, Patterned) else (n,)
    found = np.full((count, n), np.nan, np.float32)
    empty = np.zeros(0, np.float32)
    some = make_slice(np.zeros(count, np.uint16), empty, empty, found)
    kernels(f"kt_restore_{where.way.name}", piece, k, some, *sizes)
    return found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, kind) for text in ("int8", "int4", "prune:0.1", "prune:0.5") for kind in ("convolutions", "linears")),
        *((f"pattern:{taps}", "convolutions") for taps in (1, 2, 3)),
    ],
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_inputs_come_back_as_in_pytorch(kernels, text, kind, data):
    where, x, dy = one_sample(data, text, kind)
    piece, arrays = kept_by(kernels, where, x)
    parts, _ = WAYS[where.way.name].keep(x, where)
    expected = restored_by_torch(where, parts, dy)
    k = data.draw(st.integers(0, len(expected) - 1))
    count = data.draw(st.integers(1, len(expected) - k))
    assert np.array_equal(restored(kernels, where, piece, k, count), expected[k : k + count])
    assert arrays[1].nbytes >= sum(part.nbytes for part in parts)


def restored_by_torch(where, parts, dy) -> np.ndarray:
    """(k, n) as the weight gradient of PyTorch reads it."""
    seen = []
    read = type(where)(where.op, where.slice, where.compressed, where.memory)
    object.__setattr__(read, "live_grad", lambda x, dy, op=None: seen.append(x))
    WAYS[where.way.name].weight_grad(read, parts, dy)
    return seen[0].movedim(where.channel_axis, 0).flatten(1).numpy()


@pytest.mark.parametrize("kind", ["any", "pointwise", "depthwise"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_few_channels_at_a_time_have_the_bits_of_all(kernels, other_kernels, kind, data):
    p = data.draw(problems(kind))
    c = p.x.shape[0]
    per_channel = p.op.weight_shape[0] // p.op.groups
    whole = np.zeros((c, per_channel, *p.op.weight_shape[2:]), np.float32)
    index, name = np.arange(c, dtype=np.uint16), f"kt_{'pointwise' if kind == 'pointwise' else 'conv2d'}_weight_grad"
    kernels(name, p.geometry, make_slice(index, whole, whole, p.x), p.dy, None)
    most, parts = data.draw(st.integers(1, 4)), np.zeros_like(whole)
    for k in range(0, c, most):
        arrays = index[k : k + most].copy(), parts[k : k + most], p.x[k : k + most].copy()
        other_kernels(name, p.geometry, make_slice(arrays[0], arrays[1], arrays[1], arrays[2]), p.dy, None)
    assert np.array_equal(parts, whole)


@pytest.mark.parametrize("patch", [2, 4])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_both_filtered_gradients(kernels, patch, data):
    where, x, dy = one_sample(data, f"filter:{patch}", "convolutions")
    assume(where.op.dilation[0] < patch)
    (sums,), means = patches.patch_sums(x, where), patches.patch_means(dy, patch)
    op, chosen = where.op, where.slice.chosen.indices
    tap = replace(op, weight_shape=(*op.weight_shape[:2], 1, 1), stride=(1, 1), padding=(0,) * 4, dilation=(1, 1))
    coarse = geometry_of(tap, x[..., :1, :1].expand(*x.shape[:2], *means.shape[2:]), means)
    geometry = geometry_of(op, x, dy)
    draws = np.random.default_rng(0)
    weight, scale = (draws.standard_normal(shape).astype(np.float32) for shape in (op.weight_shape, len(dy[0])))
    delta = where.slice.cut(torch.zeros(op.weight_shape)).numpy() + np.float32(0.5)
    gradient, kept = np.ones_like(delta), np.full(where.compressed.elements(1), np.nan, np.float32)
    index, work = np.array(chosen, np.uint16), np.full(max(means[0, 0].numel(), len(dy[0])), np.nan, np.float32)
    piece, found = make_slice(index, delta, gradient, kept), np.full(means.shape, np.nan, np.float32)
    kernels("kt_keep_filter", geometry, coarse, x.numpy(), piece, patch)
    kernels("kt_patch_means", geometry, coarse, dy.numpy(), patch, found)
    close(found, means.numpy())
    kernels("kt_filter_weight_grad", geometry, coarse, piece, found, scale, work)
    factor = where.slice.scale(torch.from_numpy(scale), torch.zeros(op.weight_shape))
    close(gradient, 1 + (patches.patch_weight_grad(where, [sums], dy) * factor).numpy())
    there = draws.standard_normal(x.shape).astype(np.float32)
    dx = there.copy()
    kernels("kt_filter_input_grad_f32", geometry, coarse, found, weight, None, piece, patch, dx, work, 1)
    whole = torch.from_numpy(weight)
    where.slice.write(whole, where.slice.cut(whole) + torch.from_numpy(delta))
    close(dx, there + patches.patch_input_grad(where, whole, dy, tuple(x.shape)).numpy())


def geometry_of(op, x, y) -> Conv:
    """A convolution between two maps."""
    return Conv(
        *x.shape[1:],
        *y.shape[1:],
        op.groups,
        *op.weight_shape[2:],
        *op.stride,
        *op.dilation,
        op.padding[0],
        op.padding[2],
    )


def test_elements_of_the_ledger():
    """A record is a scale and whole numbers, padded to four bytes."""
    for text, bits in (("int8", 8), ("int4", 4)):
        for n in range(1, 40):
            where = places.Modes((1, 2, n, 1), 0, 1, (n, 1))
            assert parse_way(text).bound(where, 1).unit == 1 + ceil(n * bits / 32)
