"""The evolutionary search for a Sparse Update scheme: the largest sum of contributions that fits a budget (section 2.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import floor

from kilotune.errors import BudgetError
from kilotune.policies.base import Bound
from kilotune.policies.contributions import RATIOS, Contributions
from kilotune.policies.fitting import Fitting
from kilotune.policies.schemes import Scheme
from kilotune.policies.sparse_update import scheme_bound
from kilotune.rng import Pcg32
from kilotune.units import format_bytes
from kilotune.update_plan import Budget

Genome = tuple[int, ...]
"""(k, choice of layer 0, choice of layer 1, ...): biases of the last k layers; 0 trains no weight, i takes RATIOS[i - 1]."""

PARENTS_SHARE = 1 / 4
"""The best of each generation, which live on and have the children."""


@dataclass(frozen=True)
class Problem:
    """What the search maximises, ``gain``, over all genomes that fit ``budget``.

    n_bias: train exactly the biases of so many layers; None: as many as pay. As in the paper, weights are trained only in
    layers whose bias is. Raises BudgetError if not even the classifier, or ``n_bias`` biases, fit.
    """

    fitting: Fitting
    contributions: Contributions
    budget: Budget
    n_bias: int | None = None

    def __post_init__(self):
        smallest = self.genome(self.n_bias or 0)
        if not self.fits(smallest):
            needed = format_bytes(self.cost(smallest))
            raise BudgetError(
                f"{smallest[0]} biases and the classifier of {self.fitting.task.graph.model} need {needed} "
                f"({self.budget.ledger} ledger), the budget is {format_bytes(self.budget.nbytes)}; raise the budget, train "
                "fewer biases, or use a smaller input"
            )

    @cached_property
    def _bias_gains(self) -> list[float]:
        return self.contributions.bias_gains().tolist()

    @cached_property
    def _weight_gains(self) -> list[list[float]]:
        return self.contributions.weight_gains().tolist()

    @cached_property
    def options(self) -> list[list[int]]:
        """Choices of each layer that gain something and train at least one channel."""
        channels = self.fitting.task.table.channels.tolist()
        return [
            [i for i in range(1, len(gains)) if gains[i] > 0 and floor(n_channels * RATIOS[i - 1])]
            for gains, n_channels in zip(self._weight_gains, channels, strict=True)
        ]

    def genome(self, n_bias: int) -> Genome:
        """No weights and ``n_bias`` biases."""
        return (n_bias, *[0] * len(self.contributions.layers))

    def scheme(self, genome: Genome) -> Scheme:
        """The genome as a scheme over all rows of the table."""
        return Scheme(genome[0], {row: RATIOS[choice - 1] for row, choice in enumerate(genome[1:]) if choice})

    def bound(self, genome: Genome) -> Bound:
        """What it trains."""
        return scheme_bound(self.fitting.task, self.scheme(genome), list(range(len(genome) - 1)))

    def cost(self, genome: Genome) -> int:
        """Bytes that count against the budget."""
        return self.fitting.count(self.bound(genome), self.budget.ledger)

    def fits(self, genome: Genome) -> bool:
        """Whether it stays within the budget."""
        return self.fitting.fits(self.bound(genome), self.budget)

    def gain(self, genome: Genome) -> float:
        """Sum of the contributions of its parts, which are taken to add up."""
        return self._bias_gains[genome[0]] + sum(self._weight_gains[row][i] for row, i in enumerate(genome[1:]))

    def bias_counts(self) -> range:
        """Numbers of biases that are tried."""
        return range(len(self._bias_gains)) if self.n_bias is None else range(self.n_bias, self.n_bias + 1)


@dataclass(frozen=True)
class Evolution:
    """The search after a generation, as plain data: fitting genomes, best first, and the generator."""

    generation: int
    population: tuple[Genome, ...]
    rng: tuple[int, int]


def evolve(problem: Problem, seed: int, size: int = 64, start: Evolution | None = None) -> Iterator[Evolution]:
    """Generation after generation of ``size`` genomes, without end; those after ``start`` where one is given.

    The same seed gives the same generations, whether or not they were interrupted.
    """
    if start is None:
        rng = Pcg32(seed)
        population = _best(problem, {_random(problem, rng) for _ in range(size)}, size)
        start = Evolution(0, population, rng.state())
        yield start
    while True:
        start = _next(problem, start, size)
        yield start


def _next(problem: Problem, last: Evolution, size: int) -> Evolution:
    rng = Pcg32.restore(last.rng)
    parents = last.population[: max(2, round(PARENTS_SHARE * size))]
    children = set(parents)
    for _ in range(size - len(parents)):
        mother, father = parents[rng.below(len(parents))], parents[rng.below(len(parents))]
        children.add(
            _filled(problem, _repaired(problem, _mutated(problem, _crossed(mother, father, rng), rng), rng), rng)
        )
    return Evolution(last.generation + 1, _best(problem, children, size), rng.state())


def _best(problem: Problem, genomes: set[Genome], size: int) -> tuple[Genome, ...]:
    return tuple(sorted(genomes, key=lambda genome: (-problem.gain(genome), genome))[:size])


def _random(problem: Problem, rng: Pcg32) -> Genome:
    counts = problem.bias_counts()
    k = counts[rng.below(len(counts))]
    while k > counts[0] and not problem.fits(problem.genome(k)):
        k -= 1
    return _filled(problem, problem.genome(k), rng)


def _filled(problem: Problem, genome: Genome, rng: Pcg32) -> Genome:
    """Layers in random order, each with a random choice larger than its own, as long as that fits."""
    first = len(genome) - genome[0]
    for place in rng.shuffled(genome[0]):
        row = first + place - 1
        larger = [choice for choice in problem.options[row] if choice > genome[row + 1]]
        if larger:
            tried = _with(genome, row, larger[rng.below(len(larger))])
            genome = tried if problem.fits(tried) else genome
    return genome


def _crossed(mother: Genome, father: Genome, rng: Pcg32) -> Genome:
    return tuple((mother, father)[rng.below(2)][place] for place in range(len(mother)))


def _mutated(problem: Problem, genome: Genome, rng: Pcg32) -> Genome:
    """Two layers in the mean take another choice; every fourth time the number of biases moves by up to two."""
    counts = problem.bias_counts()
    k = genome[0] + (rng.below(5) - 2 if rng.below(4) == 0 else 0)
    genome = (min(max(k, counts[0]), counts[-1]), *genome[1:])
    for row, options in enumerate(problem.options):
        if rng.below(len(problem.options)) < 2:
            genome = _with(genome, row, [0, *options][rng.below(1 + len(options))])
    return genome


def _repaired(problem: Problem, genome: Genome, rng: Pcg32) -> Genome:
    """Nothing in front of the trained biases; then layers at random lose their weights, and biases, until it fits."""
    first = len(genome) - 1 - genome[0]
    genome = (genome[0], *[0] * first, *genome[1 + first :])
    while not problem.fits(genome):
        trained = [row for row, choice in enumerate(genome[1:]) if choice]
        genome = _with(genome, trained[rng.below(len(trained))], 0) if trained else problem.genome(genome[0] - 1)
    return genome


def _with(genome: Genome, row: int, choice: int) -> Genome:
    return (*genome[: row + 1], choice, *genome[row + 2 :])
