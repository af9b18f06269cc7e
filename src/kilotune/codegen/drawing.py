"""How the device draws: the tables behind ``kt_policy.h``, and what a draw needs in memory."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from kilotune.errors import ExportError
from kilotune.graph.ways import round_at_random
from kilotune.policies.base import Policy, Redraw
from kilotune.policies.dgsu import Dgsu
from kilotune.policies.fit import Selector
from kilotune.policies.medyate import Medyate
from kilotune.policies.trady import Trady
from kilotune.policies.uniform import Random

MOST_CHANNELS = 65_535
_DGSU = {"cyclic": "cyclic", "strided": "strided", "independent": "anew"}
_WALKS = ("cyclic", "strided")
_WORD_BYTES = 4


@dataclass(frozen=True, eq=False)
class Drawing:
    """What the generated project knows of its policy.

    function: ``kt_draw_<function>``. layers: those that draws choose from, in forward order; channels, cost: input channels of
    each, and elements that one costs. size: elements that a draw may spend. counts: (turns, layers) of DGSU, channels of each
    layer in one draw after the other. max_channels, max_weights: most channels, and weights of them, that any draw takes.
    seed: of the generator. rounds: whether inputs are rounded at random, so that the samples trained on are counted.
    Raises ExportError for more channels than the device can number.
    """

    function: str
    layers: tuple[str, ...]
    channels: np.ndarray
    cost: np.ndarray
    size: int
    counts: np.ndarray | None
    redraw: Redraw | int
    max_channels: int
    max_weights: int
    seed: int
    rounds: bool = False

    def __post_init__(self):
        if self.n_channels > MOST_CHANNELS:
            raise ExportError(
                f"the device numbers at most {MOST_CHANNELS:,} channels, this policy chooses from {self.n_channels:,}; "
                "let it choose from fewer layers"
            )

    @property
    def n_channels(self) -> int:
        """Channels to choose from."""
        return int(self.channels.sum())

    @property
    def present_bytes(self) -> int:
        """A draw and its generator, as they are committed."""
        return present_bytes(len(self.layers), self.max_channels, self.rounds)

    @property
    def scratch_bytes(self) -> int:
        """What a draw needs while it lasts, as promised in ``kt_policy.h``."""
        n = self.n_channels
        bits, order, tree = -(-n // 32), -(-n // 2), 1 << n.bit_length()
        words = {"uniform": order, "anew": order, "strided": order, "cyclic": 0, "medyate": max(order, tree)}[
            self.function
        ]
        return _WORD_BYTES * (bits + words)

    @property
    def state_bytes(self) -> int:
        """What stays between draws: the norms of MeDyate (float); of a walk of DGSU (uint16) its order or strides, the place in
        each layer, and whose turn it is."""
        if self.function == "medyate":
            return 4 * self.n_channels
        return 2 * (self.walk_elements + len(self.layers) + (self.n_turns > 1)) if self.function in _WALKS else 0

    @property
    def walk_elements(self) -> int:
        """Numbers that say how a walk goes on from each place: its order, or a stride for each layer."""
        return len(self.layers) if self.function == "strided" else self.n_channels

    @property
    def n_turns(self) -> int:
        """Draws after which layers are drawn from again."""
        return 1 if self.counts is None else len(self.counts)


def present_bytes(n_layers: int, n_channels: int, rounds: bool) -> int:
    """A draw of up to ``n_channels`` of ``n_layers`` layers, its generator, and where rounding stands, as they are committed."""
    return -(-(24 + 4 * rounds + 2 * (n_layers + n_channels)) // 8) * 8


def find_drawing(selector: Selector, seed: int, redraw: Redraw | int | None = None) -> Drawing | None:
    """How the device draws as ``selector``, started with ``seed``, does; None where it chooses once.

    redraw: when, in place of what the policy's paper does; a number is one of updates.
    Raises ExportError for a policy that the device cannot carry out.
    """
    policy, table = selector.policy, selector.fitting.task.table
    if "never" in (policy.redraw, redraw):
        return None
    if table.once.any():
        ways = sorted({str(way) for way in selector.layout.ways.values()})
        raise ExportError(
            f"a device has no way to keep inputs as {', '.join(ways)}; of low rank it keeps none: choose int8, int4, prune, "
            "pattern or filter, or keep them exactly"
        )
    caps = np.array(selector.fitting.bound(selector.size).caps)
    rows = np.flatnonzero(caps)
    function = _function(policy)
    channels, cost = table.channels[rows], table.cost[rows]
    weight, layers = table.weight[rows], tuple(table.names[row] for row in rows)
    if isinstance(policy, Dgsu):
        counts = _by_turns(policy.rows_of_turns(table), rows, caps)
        most = int(counts.sum(1).max()), int((counts @ weight).max())
    else:
        counts, most = None, _most_affordable(channels, cost, weight, selector.size)
    rounds = round_at_random(selector.layout.ways.values())
    return Drawing(
        function, layers, channels, cost, selector.size, counts, redraw or policy.redraw, *most, seed, rounds
    )


def _function(policy: Policy) -> str:
    if isinstance(policy, Dgsu) and (policy.turns == 1 or policy.traversal in _WALKS) and policy.traversal in _DGSU:
        return _DGSU[policy.traversal]
    if type(policy) in (Random, Trady, Medyate) and not getattr(policy, "boosted", False):
        return "medyate" if isinstance(policy, Medyate) else "uniform"
    raise ExportError(
        f"policy {policy.name}, as it is set, cannot draw on a device; those that can are random, trady and medyate, not "
        f"boosted, and dgsu, its traversal {', '.join(_WALKS)}, or independent without turns; "
        "policies that choose once are exported with their choice, one choice of any other with --plan"
    )


def _by_turns(turns: list[list[int]], rows: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """(turns, rows) channels that each turn draws."""
    return np.array([np.where(np.isin(rows, turn), caps[rows], 0) for turn in turns])


def _most_affordable(channels: np.ndarray, cost: np.ndarray, weight: np.ndarray, budget: int) -> tuple[int, int]:
    """Most channels that ``budget`` buys, the cheapest ones; and a bound on their weights, those with most weight per cost."""
    cheapest = np.cumsum(np.sort(np.repeat(cost, channels)))
    dense = np.argsort(-weight / cost, kind="stable")
    spent = np.minimum(np.cumsum((cost * channels)[dense]), budget)
    weights = np.diff(spent, prepend=0) @ (weight / cost)[dense]
    return int(np.searchsorted(cheapest, budget, side="right")), ceil(weights)
