"""The draws in C against those in Python: the same channels and the same generator afterwards, nothing beside the scratch."""

import ctypes
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import State
from kilotune.policies.dgsu import TRAVERSALS
from kilotune.policies.order import shuffled, weighted
from kilotune.policies.spend import Prices, spend
from kilotune.rng import Pcg32

CANARY = 0xCDCDCDCD
NOT_BEGUN = 0xFFFF


class Candidates(ctypes.Structure):
    _fields_ = [
        ("n_rows", ctypes.c_uint16),
        ("n_channels", ctypes.c_uint16),
        ("size", ctypes.c_uint32),
        ("channels", ctypes.c_void_p),
        ("cost", ctypes.c_void_p),
    ]


class Rng(ctypes.Structure):
    _fields_ = [("state", ctypes.c_uint64), ("increment", ctypes.c_uint64)]


class Drawn(ctypes.Structure):
    _fields_ = [("count", ctypes.c_void_p), ("index", ctypes.c_void_p)]


@dataclass
class Device:
    """The C side of one policy: tables, generator, and buffers with canaries behind them."""

    library: ctypes.CDLL
    table: ChannelTable
    size: int
    seed: int

    def __post_init__(self):
        n_rows, n_channels = len(self.table.names), self.table.n_channels
        self.channels, self.cost = self.table.channels.astype(np.uint16), self.table.cost.astype(np.uint32)
        self.candidates = Candidates(n_rows, n_channels, self.size, self.channels.ctypes.data, self.cost.ctypes.data)
        self.rng = Rng()
        self.library.kt_rng_seed(ctypes.byref(self.rng), ctypes.c_uint64(self.seed))
        self.count, self.index = np.zeros(n_rows, np.uint16), np.zeros(n_channels, np.uint16)
        self.norms = np.full(n_channels, -1, np.float32)
        self.order, self.cursor = np.zeros(n_channels, np.uint16), np.full(n_rows, NOT_BEGUN, np.uint16)

    @cached_property
    def drawn(self) -> Drawn:
        return Drawn(self.count.ctypes.data, self.index.ctypes.data)

    def scratch_words(self, function: str) -> int:
        """What kt_policy.h promises."""
        n = self.table.n_channels
        bits, order, tree = -(-n // 32), -(-n // 2), 1 << n.bit_length()
        return (
            bits
            + {"uniform": order, "anew": order, "strided": order, "cyclic": 0, "medyate": max(order, tree)}[function]
        )

    def draw(self, function: str, *arguments: np.ndarray) -> list[int]:
        """Channel ids of the next draw, increasing."""
        scratch = np.full(self.scratch_words(function) + 1, CANARY, np.uint32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arguments]
        getattr(self.library, f"kt_draw_{function}")(
            ctypes.byref(self.candidates),
            *pointers,
            ctypes.byref(self.rng),
            ctypes.byref(self.drawn),
            ctypes.c_void_p(scratch.ctypes.data),
        )
        assert scratch[-1] == CANARY
        rows = np.repeat(np.arange(len(self.count)), self.count)
        return (self.table.first[rows] + self.index[: len(rows)]).tolist()


@st.composite
def tables(draw: st.DrawFn) -> ChannelTable:
    n_rows = draw(st.integers(1, 6))
    numbers = st.lists(st.integers(1, 70), min_size=n_rows, max_size=n_rows)
    channels, weight, activation = (np.array(draw(numbers), dtype=np.int64) for _ in range(3))
    names, nothing = tuple(f"l{i}" for i in range(n_rows)), np.zeros(n_rows, dtype=np.int64)
    return ChannelTable(names, channels, weight, activation, np.zeros(channels.sum()), nothing)


seeds = st.integers(0, 2**64 - 1)
# The library is compiled once per compiler, and no example changes it.
same_library = settings(deadline=None, max_examples=60)


def budget(table: ChannelTable, share: float) -> int:
    return max(1, int(share * float(table.cost @ table.channels)))


def test_generator_is_the_same(policy_library):
    c, python = Rng(), Pcg32(42)
    policy_library.kt_rng_seed(ctypes.byref(c), ctypes.c_uint64(42))
    policy_library.kt_rng_next.restype = policy_library.kt_rng_below.restype = ctypes.c_uint32
    for _ in range(1000):
        assert policy_library.kt_rng_next(ctypes.byref(c)) == python.next_u32()
    for bound in (1, 2, 3, 1000, 2**31 + 1, 2**32 - 1):
        drawn = [policy_library.kt_rng_below(ctypes.byref(c), ctypes.c_uint32(bound)) for _ in range(50)]
        assert drawn == [python.below(bound) for _ in range(50)]


@same_library
@given(table=tables(), share=st.floats(0, 1.1), seed=seeds)
def test_uniform_draws_are_the_same(policy_library, table, share, seed):
    device, rng = Device(policy_library, table, budget(table, share), seed), Pcg32(seed)
    for _ in range(5):
        expected = spend(shuffled(range(table.n_channels), rng), Prices(table), device.size)
        assert device.draw("uniform") == sorted(expected.tolist())
    assert (device.rng.state, device.rng.increment) == rng.state()


@same_library
@given(table=tables(), share=st.floats(0, 1.1), seed=seeds, draws=st.data())
def test_medyate_draws_are_the_same(policy_library, table, share, seed, draws):
    """With norms observed in between as training does: first none, then some, the others optimistic, then overwritten."""
    device, rng, norms = Device(policy_library, table, budget(table, share), seed), Pcg32(seed), {}
    values = st.one_of(st.just(0.0), st.floats(2.0**-60, 2.0**60, width=32))
    for _ in range(4):
        if norms:
            norms = {channel: norms.get(channel, max(norms.values())) for channel in range(table.n_channels)}
            order = weighted(range(table.n_channels), np.array(list(norms.values())), rng)
        else:
            order = shuffled(range(table.n_channels), rng)
        chosen = sorted(spend(order, Prices(table), device.size).tolist())
        assert device.draw("medyate", device.norms) == chosen
        norms |= {channel: draws.draw(values) for channel in chosen}
        device.norms[chosen] = [norms[channel] for channel in chosen]
    assert (device.rng.state, device.rng.increment) == rng.state()


@pytest.mark.parametrize("traversal", ["cyclic", "strided", "independent"])
@same_library
@given(table=tables(), seed=seeds, draws=st.data())
def test_dgsu_draws_are_the_same(policy_library, traversal, table, seed, draws):
    device, rng, state = Device(policy_library, table, 0, seed), Pcg32(seed), State()
    take = TRAVERSALS[traversal].take
    for _ in range(5):
        counts = np.array([draws.draw(st.integers(0, n)) for n in table.channels.tolist()], dtype=np.uint16)
        taken = [take(table, row, int(counts[row]), state, rng) for row in np.flatnonzero(counts).tolist()]
        expected = sorted(np.concatenate([*taken, []]).astype(int).tolist())
        if traversal in ("cyclic", "strided"):
            assert device.draw(traversal, counts, device.order, device.cursor) == expected
        else:
            assert device.draw("anew", counts) == expected
    assert (device.rng.state, device.rng.increment) == rng.state()


def test_a_large_table_is_drawn_the_same_for_a_thousand_epochs(policy_library):
    """Shapes of a real pool: 13 layers, 2,688 channels; norms as float32, new ones after every draw."""
    draws = np.random.default_rng(0)
    channels = np.array([96, 576, 96, 576, 160, 288, 48, 96, 112, 160, 192, 192, 96])
    table = ChannelTable(
        tuple(map(str, range(13))), channels, draws.integers(9, 400, 13), draws.integers(4, 64, 13), np.zeros(2688),
        np.zeros(13, int),
    )  # fmt: skip
    device, rng = Device(policy_library, table, 20_000, 7), Pcg32(7)
    for _ in range(1000):
        values = draws.standard_normal(table.n_channels).astype(np.float32) ** 2
        device.norms[:] = values
        order = weighted(range(table.n_channels), values, rng)
        assert device.draw("medyate", device.norms) == sorted(spend(order, Prices(table), device.size).tolist())


def test_norms_are_averaged_where_they_are_stored(policy_library):
    table = ChannelTable(("a", "b"), np.array([3, 4]), np.ones(2, int), np.ones(2, int), np.zeros(7), np.zeros(2, int))
    device = Device(policy_library, table, 0, 0)
    device.count[:], device.index[:3] = [1, 2], [2, 0, 3]
    device.norms[:] = [9, 9, 6, 10, 9, 9, 1]
    call = policy_library.kt_norms_mean
    arguments = ctypes.byref(device.candidates), ctypes.byref(device.drawn)
    call(*arguments, ctypes.c_uint32(4), ctypes.c_void_p(device.norms.ctypes.data))
    assert device.norms.tolist() == [9, 9, 1.5, 2.5, 9, 9, 0.25]
    call(*arguments, ctypes.c_uint32(0), ctypes.c_void_p(device.norms.ctypes.data))
    assert device.norms.tolist() == [9, 9, 1.5, 2.5, 9, 9, 0.25], "no step: nothing was seen"
