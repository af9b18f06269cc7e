"""The arena: no two live buffers share a byte, and what it says about itself, against counting bytes one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.memory.arena import Arena, _Packing, pack
from kilotune.memory.buffer import Buffer

N_STEPS = 12


@st.composite
def buffers(draw):
    spans = draw(st.lists(st.tuples(st.integers(0, N_STEPS - 1), st.integers(0, N_STEPS - 1)), max_size=20))
    return [
        Buffer(f"b{index}", 4 * draw(st.integers(0, 20)), "activation", "", min(span), max(span))
        for index, span in enumerate(spans)
    ]


@settings(max_examples=200)
@given(buffers())
def test_no_two_live_buffers_share_a_byte(some):
    arena = pack(some, N_STEPS)
    assert arena.buffers == tuple(some)
    for step in range(N_STEPS):
        taken = np.zeros(arena.nbytes, dtype=int)
        for buffer, offset in zip(arena.buffers, arena.offsets, strict=True):
            if buffer.first <= step <= buffer.last:
                assert offset >= 0
                assert offset + buffer.nbytes <= arena.nbytes
                taken[offset : offset + buffer.nbytes] += 1
        assert taken.max(initial=0) <= 1
        assert taken.sum() == arena.live[step] <= arena.extent[step]
        used = np.flatnonzero(taken)
        assert arena.extent[step] >= (used[-1] + 1 if len(used) else 0)
    assert arena.nbytes == max((o + b.nbytes for b, o in zip(some, arena.offsets, strict=True) if b.nbytes), default=0)
    assert arena.nbytes >= arena.live.max(initial=0)


@given(buffers())
def test_the_same_buffers_get_the_same_places(some):
    """The search draws its moves from a generator of its own, which starts anew in every call."""
    assert pack(some, N_STEPS).offsets == pack(list(some), N_STEPS).offsets


@given(buffers(), st.lists(st.integers(0, 40), min_size=N_STEPS, max_size=N_STEPS))
def test_no_greedy_order_is_better_and_the_bound_holds(some, above):
    """Largest first, the usual order, and what will lie above in view."""
    above = 4 * np.array(above)
    arena = pack(some, N_STEPS, above)
    offsets: dict[int, int] = {}
    for i in sorted(range(len(some)), key=lambda i: (-some[i].nbytes, some[i].first, -some[i].nbytes, some[i].name)):
        places = [0, *(offsets[j] + some[j].nbytes for j in offsets)]
        offsets[i] = min(
            place
            for place in places
            if all(
                not some[i].overlaps(some[j])
                or place + some[i].nbytes <= offsets[j]
                or offsets[j] + some[j].nbytes <= place
                for j in offsets
            )
        )
    greedy = Arena(tuple(some), tuple(offsets[i] for i in range(len(some))), N_STEPS)
    assert (arena.extent + above).max() <= (greedy.extent + above).max()
    assert (arena.extent + above).max() >= (arena.live + above).max()
    assert arena.lower_bound == arena.live.max()


def test_nothing_to_place():
    arena = pack([], 3)
    assert (arena.nbytes, arena.extent.tolist(), arena.live.tolist()) == (0, [0, 0, 0], [0, 0, 0])


def test_a_chain_takes_its_two_largest_neighbours():
    chain = [Buffer(str(i), n, "activation", "", i, i + 1) for i, n in enumerate((8, 40, 20, 4))]
    assert pack(chain, 5).nbytes == 60


@given(buffers().filter(bool), st.randoms())
def test_a_move_is_the_whole_placement_unless_that_is_fuller(some, random):
    """What is kept of the placement before, and when a worse one is given up, changes nothing."""
    packing = _Packing(some, N_STEPS, np.array([random.randrange(50) for _ in range(N_STEPS)]))
    orders = [random.sample(range(len(some)), len(some)) for _ in range(2)]
    now, whole = map(packing.place, orders)
    assert packing.move(orders[1], now) == (whole if whole.score[0] <= now.score[0] else now)
