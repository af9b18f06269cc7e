"""Size laws of the ways of keeping: their bounds, their caps, what a mode of size 1 stores, and how ways are written."""

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import PlanError
from kilotune.graph.low_rank import stored
from kilotune.graph.way import Charge, Modes
from kilotune.graph.ways import WAYS, parse_way

SHARES = st.sampled_from(["0.05", "0.3", "1"])
TEXTS = st.one_of(
    st.sampled_from(["int8", "int4", "filter:2", "filter:7", "pattern:1", "pattern:3"]),
    st.builds("prune:{}".format, SHARES),
    st.builds("{}:{}:{}".format, st.sampled_from(["svd", "hosvd"]), SHARES, SHARES),
    st.builds("{}:{}".format, st.sampled_from(["asi", "lance"]), st.integers(1, 9)),
    st.builds("{}:{}x{}x{}x{}".format, st.sampled_from(["asi", "lance"]), *[st.integers(1, 9)] * 4),
)
MODES = st.builds(
    lambda c, h, w, stride: Modes((1, c, h, w), 0, 1, (-(-h // stride), -(-w // stride))),
    st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(1, 2),
)  # fmt: skip


@given(TEXTS, MODES, st.integers(1, 9), st.data())
def test_no_choice_of_channels_exceeds_the_bound(text, modes, batch, data):
    way, channels = parse_way(text), data.draw(st.integers(1, modes.channels))
    kept, state = way.bound(modes, batch), way.state_bound(modes, batch)
    assert 0 < way.kept(modes, batch, channels) <= kept.once + channels * kept.unit
    assert 0 <= way.state(modes, batch, channels) <= state.once + channels * state.unit
    assert min(*kept, *state) >= 0


@given(TEXTS)
def test_a_way_is_written_as_it_is_read(text):
    assert parse_way(str(parse_way(text))) == parse_way(text)


def test_sizes_by_hand():
    """Batch 4 of (6, 5, 3): 60 positions per channel; two channels kept."""
    modes = Modes((1, 6, 5, 3), 0, 1, (5, 3))
    elements = {
        "int8": 2 * (15 + 1),
        "int4": 2 * (8 + 1),
        "prune:0.1": 2 * (6 + 2),
        "pattern:1": 2 * (4 * 3 * 2 + 1),
        "pattern:3": 2 * (3 * 4 * 3 * 2 + 1),
        "filter:2": 2 * 4 * 3 * 2,
        "svd:0.8:0.5": (60 // 34) * (4 + 30),
        "hosvd:0.8:0.5": 60,
        "hosvd:0.8:0.01": 1 + 4 + 2 + 5 + 3,
        "asi:2": 2 * 2 * 2 * 2,
        "asi:9x1x9x2": 4 * 1 * 5 * 2,
        "lance:1x1x2x2": 4 * 1 * 2 * 2,
    }
    assert {text: parse_way(text).kept(modes, 4, 2) for text in elements} == elements
    states = {
        "asi:2": 4 * 2 + 5 * 2 + 3 * 2,
        "asi:9x1x9x2": 2 * 1 + 3 * 2,
        "lance:1x1x2x2": 6 + 5 * 2 + 3 * 2 + 2,
        "int8": 0,
    }
    assert {text: parse_way(text).state(modes, 4, 2) for text in states} == states


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_stored_elements_of_a_core_and_factors(sizes, data):
    ranks = [data.draw(st.integers(1, size)) for size in sizes]
    factors = [size * rank for size, rank in zip(sizes, ranks, strict=True) if rank != size]
    assert stored(tuple(sizes), ranks) == prod(ranks) + sum(factors)
    assert stored(tuple(sizes), sizes) == prod(sizes), "nothing is compressed"


def test_a_single_sample_stores_no_batch_factor():
    """Section 3.3 of the HOSVD paper without the batch mode: K2 K3 K4 + C K2 + H K3 + W K4."""
    assert stored((1, 20, 7, 7), (1, 3, 2, 2)) == 3 * 2 * 2 + 20 * 3 + 7 * 2 + 7 * 2
    assert parse_way("svd:0.8").kept(Modes((1, 20, 7, 7), 0, 1, (7, 7)), 1, 20) == 20 * 49


def test_linear_inputs_have_channels_last():
    modes = Modes((1, 16, 12), 0, 2, (16, 1))
    assert modes.at(3, 5) == (3, 16, 5)
    assert parse_way("int8").bound(modes, 3) == Charge(0, 12 + 1)
    assert parse_way("asi:2x4x3").state_bound(modes, 3) == Charge(3 * 2 + 16 * 4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "zip:3",
            "there is no way of keeping 'zip' .*choose from int8, int4, prune, pattern, filter, svd, hosvd, asi, lance",
        ),
        ("hosvd:0", "Expected `float` > 0.0.*write hosvd:ENERGY:CAP"),
        ("hosvd:1.2", "Expected `float` <= 1.0"),
        ("svd:0.8:0", "Expected `float` > 0.0.*write svd:ENERGY:CAP"),
        ("hosvd", "missing required field `energy`"),
        ("hosvd:much", "Expected `float`"),
        ("asi:0", "Expected `int` >= 1.*write asi:RANKS"),
        ("asi:2x0", "Expected `int` >= 1"),
        ("filter:1", "Expected `int` >= 2"),
        ("pattern:4", "Expected `int` <= 3.*write pattern:TAPS"),
        ("prune:-1", "Expected `float` > 0.0"),
        ("int8:3", "'int8:3' has too many values; write int8"),
    ],
)
def test_what_is_no_way(text, message):
    with pytest.raises(PlanError, match=message):
        parse_way(text)


def test_the_table_is_by_name():
    assert all(name == way.name for name, way in WAYS.items())
