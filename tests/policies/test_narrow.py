"""The largest size that fits, sought only as closely as asked: against the whole search."""

from hypothesis import given
from hypothesis import strategies as st

from kilotune.policies.narrow import Narrowing, first_worth
from kilotune.policies.spend import cut

LARGEST = 60


@st.composite
def searches(draw):
    """Runs of sizes and those that fit, in no order: costs need not rise along a run."""
    sizes = range(1, draw(st.integers(1, LARGEST)))
    return cut(sizes, draw(st.lists(st.integers(1, LARGEST), max_size=4))), draw(st.sets(st.integers(1, LARGEST)))


def whole_search(runs, fitting):
    """The last run whose first size fits, halved until one size is left."""
    for run in reversed(runs):
        if run and run[0] in fitting:
            low, high = 0, len(run) - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if run[middle] in fitting else (low, middle - 1)
            return run[low]
    return None


@given(searches(), st.lists(st.integers(0, LARGEST), max_size=3))
def test_whatever_is_asked_the_whole_search_agrees(search, questions):
    runs, fitting = search
    narrowing, expected = Narrowing(runs, fitting.__contains__), whole_search(runs, fitting)
    for size in questions:
        assert narrowing.reaches(size) == ((expected or 0) >= size)
    assert narrowing.result() == expected


@given(st.lists(searches(), min_size=1, max_size=5), st.sampled_from([0.5, 0.75, 1.0]))
def test_the_first_that_is_worth_it(found, share):
    sizes = [whole_search(*search) or 0 for search in found]
    expected = next(place for place, size in enumerate(sizes) if size >= share * max(sizes))
    assert first_worth(share, [Narrowing(runs, fits.__contains__) for runs, fits in found]) == expected


def test_a_question_far_from_the_answer_takes_few_tries():
    tried = []
    narrowing = Narrowing([range(1, 1 << 20)], lambda size: tried.append(size) or size < 100)
    assert not narrowing.reaches(1 << 19)
    assert len(tried) == 2, "the first size, and the middle"
