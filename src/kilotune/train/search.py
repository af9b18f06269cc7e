"""The whole scheme search: contributions are measured, then a scheme evolves; both go on where they were broken off."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import torch

from kilotune.data.images import Split
from kilotune.errors import PlanError
from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.policies.base import Task
from kilotune.policies.contributions import Contributions, Score
from kilotune.policies.evolve import Evolution, Problem, evolve
from kilotune.policies.files import load_json, save_json
from kilotune.policies.fitting import Fitting
from kilotune.policies.found import FoundScheme
from kilotune.policies.sparse_update import SparseUpdate
from kilotune.train.contribute import contribute
from kilotune.update_plan import Budget

Tell = Callable[[str], Any]


class SavedEvolution(msgspec.Struct, frozen=True):
    """A generation, and the question it is about: it goes on only where the same is asked."""

    question: str
    evolution: Evolution


def find_scheme(
    model: torch.nn.Module,
    example: torch.Tensor,
    train: Split,
    held_out: Split,
    budget: Budget,
    work: Path,
    score: Score = "loss",
    n_bias: int | None = None,
    ratios: tuple[float, ...] | None = None,
    generations: int = 60,
    population: int = 64,
    seed: int = 0,
    accounting: Accounting | None = None,
    tell: Tell = lambda message: None,
    **fields: Any,
) -> FoundScheme:
    """The scheme of largest summed contributions that fits ``budget``; see ``contribute`` for the arguments not named here.

    n_bias: train exactly the biases of so many last layers; None: as many as pay, up to all. work: folder of the measured
    contributions and of the last generation; with it, a second call goes on where the first was broken off, and another
    budget needs no second measurement. Raises BudgetError if nothing fits.
    """
    path = work / "contributions.json"
    known = Contributions.load(path) if path.exists() else None

    def keep(table: Contributions) -> None:
        table.save(path)
        tell(f"{len(table.values)} parts measured")

    graph = capture(model, example)
    limit = None if n_bias is None else max(n_bias, known.n_bias if known else 0)
    table = contribute(model, example, train, held_out, score, limit, ratios, known, keep, **{"seed": seed, **fields})
    fitting = Fitting(Task.of(graph), SparseUpdate(), accounting or Accounting())
    problem = Problem(fitting, table, budget, n_bias)
    last = _evolved(problem, seed, population, generations, work / "evolution.json", tell)
    best = problem.scheme(last.population[0])
    return FoundScheme(
        network=graph.model,
        fingerprint=table.fingerprint,
        n_bias=best.n_bias,
        ratios=best.ratios,
        gain=problem.gain(last.population[0]),
        provenance={
            "source": f"evolutionary search, {last.generation} generations of {population}, seed {seed}",
            "budget": str(budget),
            "score": table.score,
            "recipe": table.recipe,
        },
    )


def _evolved(problem: Problem, seed: int, population: int, generations: int, path: Path, tell: Tell) -> Evolution:
    asked = [problem.contributions, problem.budget, problem.n_bias, problem.fitting.accounting, seed, population]
    question = msgspec.json.encode(asked).decode()
    start = None
    if path.exists():
        saved = load_json(path, SavedEvolution, "a search", PlanError, "delete it to search anew")
        if saved.question == question and saved.evolution.generation <= generations:
            start = saved.evolution
    done = 0 if start is None else start.generation
    last = start
    for last in islice(evolve(problem, seed, population, start), generations - done + (start is None)):
        save_json(path, SavedEvolution(question, last))
        tell(f"generation {last.generation}: gain {problem.gain(last.population[0]):.4g}")
    assert last is not None  # The first generation is always made.
    return last
