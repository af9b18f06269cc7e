"""Kept inputs as a core and a factor per mode: SVD, HOSVD (arXiv 2411.06346), ASI (2505.05086), LANCE (2509.21617).

``x ~ core x_1 U_1 x_2 U_2 ...``; a mode at full rank has no factor, which is an empty tensor here.
"""

import torch
from torch import Tensor

from kilotune.graph.low_rank import Asi, Hosvd, Lance, Svd, stored
from kilotune.ops.place import Place

Parts = list[Tensor]

# Components of the first guess, and its growth, where a subspace is enough and a decomposition of the whole mode too much.
_GUESS, _GROWTH = 32, 4


def contract(x: Tensor, factor: Tensor, mode: int) -> Tensor:
    """``x`` (..., d, ...) times ``factor`` (d, r) along ``mode``: (..., r, ...)."""
    return torch.tensordot(x, factor, ([mode], [0])).movedim(-1, mode)


def expand(core: Tensor, factor: Tensor, mode: int) -> Tensor:
    """``core`` (..., r, ...) times the transpose of ``factor`` (d, r) along ``mode``: (..., d, ...)."""
    return torch.tensordot(core, factor, ([mode], [1])).movedim(-1, mode)


def project(x: Tensor, factors: Parts) -> Tensor:
    """The core of ``x``; the modes that shrink most come first."""
    with_factor = [mode for mode, factor in enumerate(factors) if factor.numel()]
    for mode in sorted(with_factor, key=lambda mode: factors[mode].shape[1] / factors[mode].shape[0]):
        x = contract(x, factors[mode], mode)
    return x.contiguous()


def reconstruct(core: Tensor, factors: Parts) -> Tensor:
    """The tensor that a core and factors stand for."""
    for mode, factor in enumerate(factors):
        core = expand(core, factor, mode) if factor.numel() else core
    return core


def leading(unfolded: Tensor, energy: float) -> tuple[Tensor, list[float]]:
    """Orthonormal columns (d, k) that hold ``energy`` of ``unfolded`` (d, p), and each one's share of it, falling.

    Where k is small against d by one subspace step on the Gram matrix, from its largest columns; what the columns hold is
    exact either way, k may then be a little more than the smallest one.
    """
    d, p = unfolded.shape
    if d == 1:
        return unfolded.new_ones(1, 1), [1.0]
    if p < d:
        turned, shares = leading(unfolded.T, energy)
        return torch.linalg.qr(unfolded @ turned).Q, shares
    gram = unfolded @ unfolded.T
    total = gram.diagonal().sum()
    size = _GUESS
    while 2 * size < d:
        start = gram[:, gram.diagonal().topk(size).indices]
        basis = torch.linalg.qr(gram @ torch.linalg.qr(start).Q).Q
        values, vectors = _eigen(basis.T @ (gram @ basis))
        shares, is_enough = _fewest(values, total, energy)
        if is_enough:
            return basis @ vectors[:, : len(shares)], shares
        size *= _GROWTH
    values, vectors = _eigen(gram)
    shares, _ = _fewest(values, total, energy)
    return vectors[:, : len(shares)].clone(), shares


def _fewest(values: Tensor, total: Tensor, energy: float) -> tuple[list[float], bool]:
    """Shares of the fewest leading ``values`` that sum to ``energy`` of ``total``, and whether they do."""
    if not total > 0:
        return [0.0], True
    shares = (values / total).clamp(min=0)
    n_values = int((shares.cumsum(0) < energy).sum()) + 1
    return shares[:n_values].tolist(), n_values <= len(shares)


def within(sizes: tuple[int, ...], shares: list[list[float]], cap: int) -> tuple[list[int], bool]:
    """Ranks (one per mode) that take at most ``cap`` elements, and whether fewer than all ``shares`` had to do.

    The component that holds least of all the last ones of their modes goes first.
    """
    ranks = [len(one) for one in shares]
    capped = stored(sizes, ranks) > cap
    while stored(sizes, ranks) > cap:
        least = min((shares[mode][rank - 1], mode) for mode, rank in enumerate(ranks) if rank > 1)
        ranks[least[1]] -= 1
    return ranks, capped


def hosvd(x: Tensor, place: Place) -> Parts:
    """Core and factors, each mode of the original tensor by itself (HOSVD, section 3.3)."""
    way, x = place.way, _exact(place.cut(x))
    assert isinstance(way, Hosvd)
    found = [leading(_unfold(x, mode), way.energy) for mode in range(x.dim())]
    cap = way.kept(place.compressed.modes, place.samples(x), place.compressed.channels)
    ranks, capped = within(tuple(x.shape), [shares for _, shares in found], cap)
    place.memory.capped += capped
    factors = [
        factor[:, :rank].clone() if rank < size else x.new_empty(0)
        for (factor, _), rank, size in zip(found, ranks, x.shape, strict=True)
    ]
    return [project(x, factors), *factors]


def svd(x: Tensor, place: Place) -> Parts:
    """Core and the samples' factor: the input unfolded to samples x everything else (HOSVD, section 3.2)."""
    way, modes, x = place.way, place.compressed.modes, _exact(place.cut(x))
    assert isinstance(way, Svd)
    if x.shape[modes.batch_axis] == 1:
        return [x.clone(), x.new_empty(0)]
    factor, shares = leading(_unfold(x, modes.batch_axis), way.energy)
    most = way.most(modes, place.samples(x), place.compressed.channels)
    place.memory.capped += len(shares) > most
    factor = factor[:, :most].clone()
    return [contract(x, factor, modes.batch_axis).contiguous(), factor]


def asi(x: Tensor, place: Place) -> Parts:
    """Core; factors by one subspace step from those of the step before, at random the first time (ASI, algorithm 1)."""
    way, memory, x = place.way, place.memory, _exact(place.cut(x))
    assert isinstance(way, Asi)
    factors = []
    for mode, (size, rank) in enumerate(zip(x.shape, way.of(tuple(x.shape)), strict=True)):
        if rank == size:
            factors.append(x.new_empty(0))
            continue
        before = memory.factors.get(mode)
        if before is None or before.shape != (size, rank) or before.dtype != x.dtype:
            before = torch.randn(size, rank, dtype=x.dtype, device=x.device)
        factors.append(_subspace_step(_unfold(x, mode), before))
    memory.factors = dict(enumerate(factors))
    return [project(x, factors), *factors]


def _subspace_step(unfolded: Tensor, before: Tensor) -> Tensor:
    """Orthonormal columns (d, r) nearer to the leading ones of ``unfolded`` (d, q) than ``before``."""
    return torch.linalg.qr(unfolded @ (unfolded.T @ before)).Q


def lance(x: Tensor, place: Place) -> Parts:
    """Core; factors as they were calibrated, from the first input where nobody did (LANCE, section 4)."""
    way, modes, memory = place.way, place.compressed.modes, place.memory
    assert isinstance(way, Lance)
    if not memory.factors:
        memory.factors = calibrated(way, modes.batch_axis, [gram(x, mode) for mode in range(x.dim())])
    x = _exact(place.cut(x))
    ranks = way.of(tuple(x.shape), modes.batch_axis)
    compressed = [mode for mode, (rank, size) in enumerate(zip(ranks, x.shape, strict=True)) if rank < size]
    factors = [memory.factors[mode] if mode in compressed else x.new_empty(0) for mode in range(x.dim())]
    if place.sliced and factors[modes.channel_axis].numel():
        # Rows of the calibrated factor, made orthonormal again once per draw.
        if memory.cut is None:
            memory.cut = torch.linalg.qr(factors[modes.channel_axis][place.slice.index]).Q
        factors[modes.channel_axis] = memory.cut
    return [project(x, factors), *factors]


def gram(x: Tensor, mode: int) -> Tensor:
    """Sum over everything else of the products along ``mode``, (d, d): its covariance, not centred."""
    unfolded = _unfold(_exact(x), mode)
    return unfolded @ unfolded.T


def calibrated(way: Lance, batch_axis: int, grams: list[Tensor]) -> dict[int, Tensor]:
    """The leading eigenvectors (d, r) of each mode's Gram matrix; none for samples and modes of full rank."""
    ranks = way.of(tuple(len(one) for one in grams), batch_axis)
    return {
        mode: _eigen(one)[1][:, :rank].clone()
        for mode, (one, rank) in enumerate(zip(grams, ranks, strict=True))
        if rank < len(one)
    }


def _eigen(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, falling, and eigenvectors; in float64, as many zero eigenvalues stop the routine for float32."""
    values, vectors = torch.linalg.eigh(symmetric.double())
    return values.flip(0).to(symmetric.dtype), vectors.flip(1).to(symmetric.dtype)


def _unfold(x: Tensor, mode: int) -> Tensor:
    return x.movedim(mode, 0).flatten(1)


def _exact(x: Tensor) -> Tensor:
    """In a format that decompositions take."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
