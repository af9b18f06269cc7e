"""What ways of keeping need while they work: elements beside the input, what is kept, and the gradients.

Forward is the step that compresses a layer's input, backward the one that makes its gradients from what was kept. Counted is
what ``ops`` allocates for the way and an exact input would not need; workspace inside a library's kernel (a convolution's, an
eigenvalue routine's) is not. Letters: p positions of a channel, k channels, d a mode's size, r its rank.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, prod
from typing import Any, NamedTuple

from kilotune.graph.node import Layer
from kilotune.graph.way import Charge, Modes, Way

EIGEN = 10
"""Copies of a Gram matrix that an eigenvalue problem holds: itself, in float64, its vectors, and those in falling order."""
FACTOR = 4
"""Copies of a factor while it is made: the one before, the product, the orthonormal one and what is beside it."""


class Scratch(NamedTuple):
    """Elements during the two steps, for any choice of channels up to as many as were asked for."""

    forward: Charge = Charge()
    backward: Charge = Charge()

    def of_all(self, units: int) -> "Scratch":
        """All ``units`` charged at once."""
        return Scratch(self.forward.of_all(units), self.backward.of_all(units))


@lru_cache(maxsize=1 << 14)  # a search for the largest selection asks for the same few again and again
def scratch(way: Way | None, layer: Layer, modes: Modes, batch: int, most: int) -> Scratch:
    """What keeping up to ``most`` channels of the input of ``layer`` in ``way`` (None: exactly) needs at a batch size."""
    return Scratch() if way is None else _SCRATCH[way.name](_Case(way, layer, modes, batch, most))


@dataclass(frozen=True)
class _Case:
    way: Any
    layer: Layer
    modes: Modes
    batch: int
    most: int

    @cached_property
    def p(self) -> int:
        """Positions of a channel, samples included."""
        return self.modes.positions(self.batch)

    @cached_property
    def n(self) -> int:
        """Size of the batch mode."""
        return self.modes.at(self.batch)[self.modes.batch_axis]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Of all modes."""
        return self.modes.at(self.batch, self.most)

    @cached_property
    def others(self) -> tuple[int, ...]:
        """All modes but that of the channels."""
        return tuple(mode for mode in range(len(self.sizes)) if mode != self.modes.channel_axis)

    @cached_property
    def outputs(self) -> int:
        """Elements of the layer's output."""
        return self.n * self.layer.out_channels * prod(self.layer.output_hw)


def _quantised(case: _Case) -> Scratch:
    """The rows and noise; of 4 bits also bytes before they are packed. Backward: the rows, and bytes unpacked."""
    halves = (ceil(case.p / 4) + 2) * (case.way.bits == 4)
    return Scratch(Charge(0, 2 * case.p + halves + 4), Charge(0, case.p + 2 * halves + 1))


def _pruned(case: _Case) -> Scratch:
    """Rows, and the largest magnitudes, or masks and places among equals, or the mask as numbers. Backward: mask and rows."""
    p, mask = case.p, ceil(case.p / 4)
    padded = p + -p % 32
    largest, numbers = p + 3 * case.way.values(p), padded + padded // 8 + (padded > p) * p
    equals = p + 3 * mask
    return Scratch(Charge(8, p + max(largest, equals, mask + numbers)), Charge(8, padded + mask + padded // 8))


def _patterned(case: _Case) -> Scratch:
    """The input in cells twice, the energies of all patterns. Backward: the cells, and as planes."""
    height, width = case.modes.sizes[2:]
    cells = 4 * case.n * ceil(height / 2) * ceil(width / 2)
    return Scratch(Charge(32, 2 * cells + 64), Charge(64, 2 * cells + 16))


def _filtered(case: _Case) -> Scratch:
    """The input, and padded to whole patches. Backward: dL/dy so, then dL/dx at the rows of its patches, then everywhere."""
    patch, (rows, columns) = case.way.patch, case.layer.stride
    patches = prod(ceil(size / patch) for size in case.layer.output_hw)
    tall = case.n * patches * patch * rows
    padded = tall * patch * columns
    means = case.n * case.layer.out_channels * patches
    averaging = means * (patch * patch + 2) + 3 * patches * patch * patch
    spreading = 2 * means + case.modes.channels * (tall + padded)
    pairs = case.modes.channels * case.layer.out_channels // case.layer.groups
    return Scratch(Charge(0, case.p + padded), Charge(max(averaging, spreading) + pairs, 0))


def _svd(case: _Case) -> Scratch:
    """The input and, of several samples, their Gram matrix and the product with their factor. Backward: dL/dy in components."""
    if case.n == 1:
        return Scratch(Charge(0, case.p))
    most = case.way.most(case.modes, case.batch, case.most)
    turned = ceil(case.outputs * (1 + 2 * most / case.n))
    most = case.way.most(case.modes, case.batch, case.most)
    turned = ceil(case.outputs * (1 + 2 * most / case.n))
    return Scratch(Charge((EIGEN + 3) * case.n * case.n, 4 * case.p), Charge(turned, 0))


def _hosvd(case: _Case) -> Scratch:
    """The input, unfolded, one mode's Gram matrix on its shorter side, factors at full length, and the products."""
    axis, sizes = case.modes.channel_axis, case.sizes
    shorter = [min(d, prod(sizes) // d) for d in sizes]
    once = EIGEN * max(shorter[mode] ** 2 for mode in case.others) + 3 * sum(
        sizes[mode] * shorter[mode] for mode in case.others
    )
    unit = (EIGEN + 3) * shorter[axis] + 4 * case.p
    return Scratch(Charge(once + 8, unit), _components(case, tuple(shorter), by_data=True))


def _asi(case: _Case) -> Scratch:
    """The input, unfolded, its product with a factor, and the factors while they are made; then the products."""
    axis, sizes, ranks = case.modes.channel_axis, case.sizes, case.way.of(case.sizes)
    compressed = [mode for mode in case.others if ranks[mode] < sizes[mode]]
    seen = max((ceil(case.p * ranks[mode] / sizes[mode]) for mode in compressed), default=0)
    once = FACTOR * sum(sizes[mode] * ranks[mode] for mode in compressed) + max(ranks) ** 2
    unit = max(2 * case.p + seen, _projecting(case, ranks))
    if ranks[axis] < sizes[axis]:
        once, unit = once + case.p * ranks[axis], unit + FACTOR * ranks[axis]
    return Scratch(Charge(once, unit), _components(case, ranks))


def _lance(case: _Case) -> Scratch:
    """The input and its products; once per draw the rows of the channels' factor, made orthonormal."""
    ranks = case.way.of(case.sizes, case.modes.batch_axis)
    rank = ranks[case.modes.channel_axis]
    return Scratch(Charge(rank * rank, _projecting(case, ranks) + 3 * rank), _components(case, ranks))


def _projecting(case: _Case, ranks: tuple[int, ...]) -> int:
    """For each channel: the copy, then what comes in, lies ready and goes out of each product, the smallest one first."""
    left = min((ranks[mode] / case.sizes[mode] for mode in case.others), default=1.0)
    return ceil(case.p * (1 + max(1 + left, 3 * left)))


def _components(case: _Case, ranks: tuple[int, ...], by_data: bool = False) -> Charge:
    """Backward: dL/dy in components of samples or tokens, the core at all positions, the gradient of the components, of grouped
    convolutions for each channel and also by channels.

    by_data: ranks are at most these.
    """
    axis, grouped = case.modes.channel_axis, case.layer.groups > 1
    summed = case.others if case.layer.kind == "linear" else (case.modes.batch_axis,)
    turned = [
        1 + 2 * ranks[mode] / case.sizes[mode]
        for mode in summed
        if ranks[mode] < case.sizes[mode] or (by_data and case.sizes[mode] > 1)
    ]
    dy = ceil(case.outputs * (grouped + max(turned, default=0)))
    core = ceil(3 * case.p * ranks[case.modes.batch_axis] / case.n)
    grad = case.layer.channel_weight_elements * (2 * ranks[axis] if grouped else 1) + ranks[axis]
    if ranks[axis] < case.sizes[axis]:
        return Charge(dy + core * ranks[axis], grad)
    return Charge(dy, core + grad)


_SCRATCH: dict[str, Callable[[_Case], Scratch]] = {
    "int8": _quantised,
    "int4": _quantised,
    "prune": _pruned,
    "pattern": _patterned,
    "filter": _filtered,
    "svd": _svd,
    "hosvd": _hosvd,
    "asi": _asi,
    "lance": _lance,
}
