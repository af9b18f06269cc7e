"""Ranks, energies, caps and factors of low-rank kept inputs, against full decompositions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.low_rank import stored
from kilotune.graph.node import Conv2d
from kilotune.graph.way import Modes
from kilotune.ops.low_rank import asi, hosvd, lance, leading, reconstruct, svd, within
from kilotune.update_plan import ChannelSet
from tests.oracles.places import place

# Squares of singular values are computed, so that small ones are right to the root of 1e-16 only.
ENERGY_TOLERANCE = 1e-8


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def decaying(d, p, power, seed=0):
    """A matrix whose singular values fall as i^-power, like those of activations."""
    left, right = torch.linalg.qr(random(d, d, seed=seed)).Q, torch.linalg.qr(random(p, p, seed=seed + 1)).Q
    n = min(d, p)
    values = torch.arange(1, n + 1, dtype=torch.float64) ** -power
    return left[:, :n] * values @ right[:, :n].T


def energies(matrix):
    squares = torch.linalg.svdvals(matrix) ** 2
    return squares / squares.sum()


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.3, 0.8, 0.95, 1.0]), st.integers(0, 99))
def test_the_fewest_columns_that_hold_the_energy(d, p, energy, seed):
    """Rank rule of the authors' code: searchsorted(cumulative, eps) + 1."""
    matrix = random(d, p, seed=seed)
    factor, shares = leading(matrix, energy)
    exact = energies(matrix)
    expected = min(int(torch.searchsorted(exact.cumsum(0), energy - ENERGY_TOLERANCE)) + 1, min(d, p))
    assert abs(factor.shape[1] - expected) <= (energy == 1.0)
    assert factor.shape == (d, len(shares))
    assert torch.allclose(factor.T @ factor, torch.eye(len(shares), dtype=factor.dtype), atol=ENERGY_TOLERANCE)
    assert torch.allclose(torch.tensor(shares, dtype=torch.float64)[:expected], exact[:expected], atol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("energy", [0.8, 0.9, 0.99])
def test_a_subspace_step_holds_the_energy_too(power, energy):
    """Of 300 columns, where a full decomposition would be too slow; a few columns more than the fewest at worst."""
    matrix = decaying(300, 400, power)
    factor, shares = leading(matrix, energy)
    held = float((factor.T @ matrix).square().sum() / matrix.square().sum())
    fewest = int(torch.searchsorted(energies(matrix).cumsum(0), energy)) + 1
    assert held >= energy - ENERGY_TOLERANCE
    assert sum(shares) == pytest.approx(held, abs=1e-6)
    assert fewest <= factor.shape[1] <= 1.1 * fewest + 1


def test_zeros_have_rank_one():
    factor, shares = leading(torch.zeros(5, 7), 0.8)
    assert factor.shape[1] == len(shares) == 1


def convolution(shape, text, indices=None):
    _, c, h, w = shape
    op = Conv2d("w", (3, c, 1, 1), None, (1, 1), (0,) * 4, (1, 1), 1)
    chosen = ChannelSet("layer", "in", indices or tuple(range(c)))
    return place(op, Modes((1, c, h, w), 0, 1, (h, w)), text, chosen)


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 7), min_size=4, max_size=4),
    st.sampled_from(["0.6", "0.9"]),
    st.sampled_from(["0.1", "0.5", "1"]),
)
def test_hosvd(shape, energy, cap):
    """||A - A~||^2 <= sum over modes of what each leaves out (notes, section 7.1); the cap is never exceeded."""
    x = random(*shape)
    where = convolution(shape, f"hosvd:{energy}:{cap}")
    core, *factors = hosvd(x, where)
    ranks = [factor.shape[1] if factor.numel() else size for factor, size in zip(factors, shape, strict=True)]
    assert core.numel() + sum(factor.numel() for factor in factors) == stored(tuple(shape), ranks)
    assert stored(tuple(shape), ranks) <= where.way.kept(where.compressed.modes, shape[0], shape[1])
    lost = float((x - reconstruct(core, factors)).square().sum() / x.square().sum())
    if not where.memory.capped:
        left_out = [1 - energies(x.movedim(mode, 0).flatten(1))[:rank].sum() for mode, rank in enumerate(ranks)]
        assert all(float(one) <= 1 - float(energy) + ENERGY_TOLERANCE for one in left_out)
        assert lost <= sum(map(float, left_out)) + ENERGY_TOLERANCE
    assert lost <= 1 + ENERGY_TOLERANCE


def test_the_cap_takes_what_holds_least():
    sizes, shares = (4, 10), [[0.6, 0.3, 0.08], [0.7, 0.2, 0.05, 0.01]]
    assert within(sizes, shares, 1000) == ([3, 4], False)
    assert within(sizes, shares, stored(sizes, [3, 3])) == ([3, 3], True)
    assert within(sizes, shares, stored(sizes, [2, 2])) == ([2, 2], True)
    assert within(sizes, shares, stored(sizes, [1, 1])) == ([1, 1], True)


def test_svd():
    """K (B + C H W) elements, and the best approximation of that rank."""
    x = random(6, 3, 2, 2)
    where = convolution((6, 3, 2, 2), "svd:0.7:1")
    core, factor = svd(x, where)
    exact = energies(x.flatten(1))
    rank = int(torch.searchsorted(exact.cumsum(0), 0.7)) + 1
    assert core.numel() + factor.numel() == rank * (6 + 12)
    empty = x.new_empty(0)
    lost = (x - reconstruct(core, [factor, empty, empty, empty])).square().sum() / x.square().sum()
    assert float(lost) == pytest.approx(float(1 - exact[:rank].sum()), abs=ENERGY_TOLERANCE)
    assert where.memory.capped == 0
    svd(x, capped := convolution((6, 3, 2, 2), "svd:0.99:0.3"))
    assert capped.memory.capped == 1


def test_asi_converges_to_the_leading_subspace_while_the_input_stays():
    """A warm start is one more step of subspace iteration on the same matrix."""
    x = reconstruct(random(2, 2, 2, 2), [random(size, 2, seed=size) for size in (8, 9, 5, 6)]) + 0.02 * random(
        8, 9, 5, 6
    )
    where = convolution((8, 9, 5, 6), "asi:2")
    torch.manual_seed(0)
    losses = []
    for _ in range(6):
        core, *factors = asi(x, where)
        losses.append(float((x - reconstruct(core, factors)).square().sum() / x.square().sum()))
    best = convolution((8, 9, 5, 6), "hosvd:0.999:1")
    core, *factors = hosvd(x, best)
    assert losses[-1] <= losses[0]
    assert losses[-1] < 0.01
    assert [factor.shape[1] for factor in factors] >= [2, 2, 2, 2]
    assert all(torch.equal(where.memory.factors[mode], factor) for mode, factor in enumerate(asi(x, where)[1:]))


def test_asi_starts_again_where_the_batch_differs():
    where = convolution((8, 9, 5, 6), "asi:2")
    asi(random(8, 9, 5, 6), where)
    assert asi(random(3, 9, 5, 6), where)[1].shape == (3, 2)


def test_lance_decomposes_once():
    x = random(4, 9, 5, 6)
    where = convolution((4, 9, 5, 6), "lance:3")
    core, *factors = lance(x, where)
    assert core.shape == (4, 3, 3, 3)
    assert not factors[0].numel(), "samples are not compressed"
    before = dict(where.memory.factors)
    assert lance(random(4, 9, 5, 6, seed=1), where)[2] is before[1]
    exact = torch.linalg.svd(x.movedim(1, 0).flatten(1)).U[:, :3]
    assert torch.allclose(exact @ exact.T, before[1] @ before[1].T, atol=1e-6)


def test_lance_on_chosen_channels_has_orthonormal_rows_of_its_factor():
    x = random(4, 9, 5, 6)
    where = convolution((4, 9, 5, 6), "lance:3", (0, 2, 3, 5, 8))
    _, *factors = lance(x, where)
    assert factors[1].shape == (5, 3)
    assert torch.allclose(factors[1].T @ factors[1], torch.eye(3, dtype=x.dtype), atol=ENERGY_TOLERANCE)
    rows = where.memory.factors[1][[0, 2, 3, 5, 8]]
    projected = factors[1] @ (factors[1].T @ rows)
    assert torch.allclose(projected, rows, atol=ENERGY_TOLERANCE), "they span the same"
    assert not lance(x, convolution((4, 9, 5, 6), "lance:3", (0, 1)))[2].numel(), (
        "two channels are not three components"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_small_formats(dtype):
    x = random(3, 4, 4, 4).to(dtype)
    for text, way in {"hosvd:0.8": hosvd, "svd:0.8": svd, "asi:2": asi, "lance:2": lance}.items():
        assert way(x, convolution((3, 4, 4, 4), text))[0].dtype == torch.float32
