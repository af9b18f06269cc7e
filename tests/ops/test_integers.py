"""Arithmetic on token ids and masks."""

import pytest
import torch

from kilotune.ops.integers import FUNCTIONS

IDS = torch.tensor([[4, 7, 1, 1], [1, 2, 3, 4]])
SEEN = IDS != 1
EXPECTED = {
    ("add", 2): [[6, 9, 3, 3], [3, 4, 5, 6]],
    ("subtract", 1): [[3, 6, 0, 0], [0, 1, 2, 3]],
    ("multiply", 3): [[12, 21, 3, 3], [3, 6, 9, 12]],
    ("equal", 1): [[False, False, True, True], [True, False, False, False]],
    ("not_equal", 4): [[False, True, True, True], [True, True, True, False]],
    ("running_sum", 1): [[4, 11, 12, 13], [1, 3, 6, 10]],
    ("running_sum", 0): [[4, 7, 1, 1], [5, 9, 4, 5]],
}


@pytest.mark.parametrize(("name", "number"), EXPECTED)
def test_with_a_number(name, number):
    assert FUNCTIONS[name]([IDS], number).tolist() == EXPECTED[name, number]


def test_of_two():
    assert FUNCTIONS["add"]([IDS, IDS], 0).equal(2 * IDS)
    assert FUNCTIONS["subtract"]([IDS, IDS], 0).count_nonzero() == 0
    assert FUNCTIONS["multiply"]([IDS, SEEN], 0).tolist() == [[4, 7, 0, 0], [0, 2, 3, 4]]
    assert FUNCTIONS["and"]([SEEN, IDS > 3], 0).tolist() == [[True, True, False, False], [False, False, False, True]]
    assert FUNCTIONS["equal"]([IDS, IDS], 0).all()
    assert FUNCTIONS["gather"]([IDS, torch.tensor([[3, 3], [0, 1]])], 1).tolist() == [[1, 1], [1, 2]]


def test_number_formats():
    assert FUNCTIONS["to_integer"]([SEEN], 0).dtype == torch.int64
    assert FUNCTIONS["to_float"]([SEEN], 0).tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]]
