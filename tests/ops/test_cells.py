"""A pattern of positions per channel: what is kept, and what comes back."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilotune.ops.cells import keep_pattern, restore_pattern
from tests.ops.test_rows import nbytes, place


@pytest.mark.parametrize("taps", [1, 2, 3])
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), seed=st.integers(0, 99), channels_last=st.booleans(), data=st.data())
def test_the_pattern_with_most_energy_comes_back_and_nothing_else(taps, shape, seed, channels_last, data):
    indices = data.draw(st.sets(st.integers(0, shape[1] - 1), min_size=1))
    where = place(shape, f"pattern:{taps}", tuple(sorted(indices)))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    parts, kept = keep_pattern(x, where), where.cut(x)
    assert nbytes(parts) == 4 * where.way.kept(where.compressed.modes, len(x), len(indices))
    back = restore_pattern(parts, where, x)
    for channel in range(len(indices)):
        best = max((_masked(kept[:, channel], chosen) for chosen in combinations(range(4), taps)), key=_energy)
        assert torch.equal(back[:, channel], best)


def _masked(planes: torch.Tensor, chosen: tuple[int, ...]) -> torch.Tensor:
    """(n,h,w) with zeros at the positions of each 2 x 2 cell that are not chosen."""
    _, height, width = planes.shape
    number = 2 * (torch.arange(height)[:, None] % 2) + torch.arange(width) % 2
    return planes * torch.isin(number, torch.tensor(chosen))


def _energy(planes: torch.Tensor) -> float:
    return planes.double().square().sum().item()
