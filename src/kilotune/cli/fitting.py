"""The selection that fits a budget, at the input size asked for or at the largest one that leaves room to train."""

from bisect import bisect_right
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING

from kilotune.cli.network import PAPER_SIDE, Network, shape_text
from kilotune.cli.output import note
from kilotune.errors import BudgetError, ShapeError
from kilotune.units import format_bytes

if TYPE_CHECKING:
    from kilotune.graph.node import Graph
    from kilotune.memory.accounting import Accounting
    from kilotune.memory.ledger import Layout
    from kilotune.policies.base import Policy
    from kilotune.policies.fit import Selector
    from kilotune.policies.ranking import Ranking
    from kilotune.update_plan import Budget

SIDE_STEP = 8
# An input is too large if less than this part of the budget is left for trained channels.
USEFUL_SHARE = 1 / 32
# So many sides are tried near the one that a square law suggests before the rest is halved.
N_GUESSES = 2


@dataclass
class Fitter:
    """Fits ``policy`` on ``network`` into ``budget``, at any square input size up to ``ceiling``.

    The input is sized for the policy with all its layers; leaving out the first ones, as ``Selector.fit`` may do, would
    let larger images in, with less and less of the network trained on them.
    """

    network: Network
    policy: "Policy"
    budget: "Budget"
    accounting: "Accounting"
    seed: int = 0
    ranking: "Ranking | None" = None
    channels: int = 3
    ceiling: int = PAPER_SIDE
    keep: str | dict[str, str] | None = None
    _graphs: dict[int, "Graph | None"] = field(default_factory=dict)
    _seen: "Graph | None" = None

    def fit(self, shape: tuple[int, ...] | None) -> "Selector":
        """The selection at input ``shape``, or at the default size (see ``options.FittingInput``).

        Raises BudgetError, naming the smallest budget and the input or policies that fit, if nothing does; ShapeError
        if the network does not take the input.
        """
        if shape is None and self.budget.ledger != "total":
            side = min(self.ceiling, PAPER_SIDE)
            shape = (self.channels, side, side)
        try:
            return self._fit_default() if shape is None else self._fit_at(shape)
        except BudgetError as error:
            raise BudgetError(f"{error}{self._classifier_hint()}") from error

    def _fit_default(self) -> "Selector":
        selector = self._largest() or self._select(self._smallest())
        size = shape_text(selector.fitting.task.graph.input.shape[1:])
        budget = format_bytes(self.budget.nbytes)
        note(f"input {size}: the largest at which {self.policy.name} fits {budget}; choose another with --input")
        return selector

    def _fit_at(self, shape: tuple[int, ...]) -> "Selector":
        graph = self._seen = self.network.capture(shape)
        try:
            return self._select(graph)
        except BudgetError as error:
            if len(shape) == 1:  # a text has no smaller size
                raise
            self.ceiling = min(shape[1:]) - 1
            smaller = self._largest() if self.budget.ledger == "total" else None
            if smaller is None:
                raise
            fits = shape_text(smaller.fitting.task.graph.input.shape[1:])
            raise BudgetError(f"{error}; {self.policy.name} fits at input {fits}") from error

    def _select(self, graph: "Graph") -> "Selector":
        from kilotune.policies.fit import Selector

        return Selector.fit(graph, self.policy, self.budget, self.seed, self.accounting, self.ranking, self.keep)

    def _largest(self) -> "Selector | None":
        """At the largest side with room to train; if there is none, at the largest where anything fits."""
        for share in (USEFUL_SHARE, 0.0):
            if self._seen and self._hopeless(self._seen):
                break
            # Memory grows with the side, so that sizes are: refused by the network, fitting, too large.
            first_too_large = self._first_too_large(share)
            if first_too_large and (graph := self._graph(self._sides[first_too_large - 1])):
                return self._select(graph)
        return None

    def _first_too_large(self, share: float) -> int:
        """Place among ``_sides``; two looks near the guess, which cost a capture each, then bisection."""
        low, high, looks = 0, len(self._sides), 0
        while low < high:
            place = min(max(self._guess(), low), high - 1) if looks < N_GUESSES else (low + high) // 2
            looks += 1
            low, high = (low, place) if self._is_too_large(self._sides[place], share) else (place + 1, high)
        return low

    def _guess(self) -> int:
        """The last side that may fit, if the buffers of the step of the network last seen grow with the square of the side."""
        if self._seen is None:
            return len(self._sides) // 2
        layout = self._classifier_step(self._seen)
        resident = layout.resident_bytes
        growth = max(self.budget.nbytes - resident, 0) / max(layout.floor_bytes - resident, 1)
        return bisect_right(self._sides, self._seen.input.shape[-1] * sqrt(growth)) - 1

    def _classifier_step(self, graph: "Graph") -> "Layout":
        from kilotune.memory.ledger import Layout

        return Layout.of(graph, (), (), True, self.accounting)

    def _hopeless(self, graph: "Graph") -> bool:
        """Whether what the classifier needs at any input exceeds the budget already."""
        return self._classifier_step(graph).resident_bytes > self.budget.nbytes

    @property
    def _sides(self) -> list[int]:
        whole = list(range(SIDE_STEP, self.ceiling + 1, SIDE_STEP))
        return whole if self.ceiling % SIDE_STEP == 0 else [*whole, self.ceiling]

    def _is_too_large(self, side: int, share: float) -> bool:
        from kilotune.policies.base import Task
        from kilotune.policies.fitting import Fitting

        graph = self._graph(side)
        if graph is None:
            return False
        task = Task.of(graph, self.ranking, self.keep).counted_in(self.budget.ledger)
        fitting = Fitting(task, self.policy, self.accounting)
        size = fitting.largest(self.budget)
        if size is None:
            return True
        spent = fitting.bound(size).elements
        most = fitting.bound(self.policy.sizes(fitting.task)[-1]).elements
        return spent * self.accounting.element_bytes < min(
            share * self.budget.nbytes, most * self.accounting.element_bytes
        )

    def _graph(self, side: int) -> "Graph | None":
        """The network at this side, None if it does not take it."""
        if side not in self._graphs:
            try:
                self._graphs[side] = self._seen = self.network.capture((self.channels, side, side))
            except ShapeError:
                self._graphs[side] = None
        return self._graphs[side]

    def _smallest(self) -> "Graph":
        for side in self._sides:
            if graph := self._graph(side):
                return graph
        shape = shape_text((self.channels, self.ceiling, self.ceiling))
        raise ShapeError(
            f"{self.network.name} takes no square input up to {shape}; give the size it takes with --input, for token ids "
            "their number"
        )

    def _classifier_hint(self) -> str:
        """What to say where the classifier, whose size no input changes, takes most of the budget."""
        layer = self._seen and self._seen.layer.get(self._seen.classifier or "")
        if not layer or self.budget.ledger != "total":
            return ""
        elements = layer.weight_elements + layer.has_bias * layer.out_channels
        nbytes = elements * self.accounting.resident_copies * self.accounting.element_bytes
        if 2 * nbytes <= self.budget.nbytes:
            return ""
        return (
            f"; its classifier of {layer.out_channels:,} classes alone takes {format_bytes(nbytes)}, which a task of "
            "fewer classes saves (--classes, or the classes of --data)"
        )
