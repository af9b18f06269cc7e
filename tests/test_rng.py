"""The portable generator against the reference implementation's published output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.rng import Pcg32

# pcg32-demo of the PCG C library: seed 42, stream 54.
REFERENCE = [0xA15C02B7, 0x7B47F409, 0xBA1D3330, 0x83D2F293, 0xBFA4784B, 0xCBED606E]

seeds = st.integers(0, 2**64 - 1)


def test_integers_are_those_of_the_reference():
    rng = Pcg32(42, 54)
    assert [rng.next_u32() for _ in REFERENCE] == REFERENCE


@given(seeds, st.integers(1, 2**32))
def test_below_stays_below(seed, bound):
    assert 0 <= Pcg32(seed).below(bound) < bound


def test_below_rejects_the_incomplete_cycle():
    """With bound 2**31 + 1 nearly half of all words belong to the incomplete cycle; they must be skipped."""
    bound, words, rng = 2**31 + 1, Pcg32(7), Pcg32(7)
    accepted = [word for word in (words.next_u32() for _ in range(200)) if word >= 2**32 % bound]
    assert len(accepted) < 150
    assert [rng.below(bound) for _ in accepted] == [word % bound for word in accepted]


@given(seeds, st.integers(0, 40), st.integers(0, 40))
def test_words_are_the_next_ones(seed, n, m):
    rng, one_by_one = Pcg32(seed), Pcg32(seed)
    found = [*rng.words(n).tolist(), *rng.words(m).tolist()]
    assert found == [one_by_one.next_u32() for _ in range(n + m)]
    assert rng.state() == one_by_one.state()


def test_below_is_unbiased():
    """Each of 6 outcomes of 60,000 draws within 5 standard deviations of 10,000."""
    rng = Pcg32(1)
    counts = [0] * 6
    for _ in range(60_000):
        counts[rng.below(6)] += 1
    assert max(abs(count - 10_000) for count in counts) < 5 * (60_000 * 5 / 36) ** 0.5


@given(seeds, st.integers(0, 50))
def test_shuffled_is_a_permutation(seed, n):
    assert sorted(Pcg32(seed).shuffled(n)) == list(range(n))


def test_shuffled_is_uniform():
    """All 24 orders of 4, each within 5 standard deviations of 500 out of 12,000."""
    rng, counts = Pcg32(3), {}
    for _ in range(12_000):
        order = tuple(rng.shuffled(4))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert max(abs(count - 500) for count in counts.values()) < 5 * (12_000 * 23 / 576) ** 0.5


@given(seeds, st.integers(0, 2**63 - 1), st.integers(0, 20))
def test_restored_generator_continues(seed, stream, n_before):
    rng = Pcg32(seed, stream)
    for _ in range(n_before):
        rng.next_u32()
    twin = Pcg32.restore(rng.state())
    assert [twin.next_u32() for _ in range(10)] == [rng.next_u32() for _ in range(10)]


@pytest.mark.parametrize("other", [Pcg32(2, 1), Pcg32(1, 2)])
def test_seed_and_stream_matter(other):
    rng = Pcg32(1, 1)
    assert [rng.next_u32() for _ in range(4)] != [other.next_u32() for _ in range(4)]
