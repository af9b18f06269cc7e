"""Which layers matter: RGN and LaRa per layer, measured once on any task and kept as a small JSON file."""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from kilotune.errors import RankingError
from kilotune.graph.node import Graph
from kilotune.memory.cost import ChannelTable
from kilotune.policies.files import load_json, save_json

Metric = Literal["rgn", "lara"]
RANKING_VERSION = 1
RANKINGS = Path(__file__).parent / "rankings"


@dataclass(frozen=True)
class Ranking:
    """Scores of a network's layers in forward order, without the classifier, added up over the epochs of a fine-tuning.

    fingerprint: ``fingerprint`` of the network. rgn: sum of channel gradient norms over the cost of one channel (TraDy,
    Eq. 8). lara: gradient norm of the layer over the cost of the layer (MeDyate, Eq. 9). task, epochs: what it was
    fine-tuned on. provenance: how the scores came about, free text by key.
    """

    network: str
    fingerprint: str
    layers: tuple[str, ...]
    rgn: tuple[float, ...]
    lara: tuple[float, ...]
    task: str
    epochs: int
    provenance: dict[str, str] = field(default_factory=dict)
    version: int = RANKING_VERSION

    def __post_init__(self):
        if self.version != RANKING_VERSION:
            raise RankingError(
                f"the ranking of {self.network} has version {self.version}, this kilotune reads version "
                f"{RANKING_VERSION}; {_advice(self.network)}"
            )
        for metric in ("rgn", "lara"):
            scores = getattr(self, metric)
            if len(scores) != len(self.layers) or not all(math.isfinite(score) and score >= 0 for score in scores):
                raise RankingError(
                    f"the ranking of {self.network} needs one finite {metric} from 0 for each of its "
                    f"{len(self.layers)} layers, found {len(scores)}: {scores}; {_advice(self.network)}"
                )

    def scores(self, metric: Metric) -> np.ndarray:
        """The layers' scores (layers,), forward order."""
        return np.array(getattr(self, metric))

    def check(self, graph: Graph) -> None:
        """Raises RankingError unless this ranking was made from a network of the structure of ``graph``."""
        expected = fingerprint(graph)
        if self.fingerprint != expected:
            raise RankingError(
                f"the ranking is that of {self.network} ({self.fingerprint}, {len(self.layers)} layers), the network "
                f"is {graph.model} ({expected}, {len(graph.body)} layers); {_advice(graph.model)}"
            )

    def save(self, path: Path) -> None:
        """Write the ranking as JSON, complete or not at all."""
        save_json(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "Ranking":
        """The ranking that ``save`` wrote. Raises RankingError if the file is missing or anything else."""
        return load_json(Path(path), cls, "a ranking", RankingError, _advice("MODEL"))


def fingerprint(graph: Graph) -> str:
    """Hash of the structure of a network's body: linear or not, channels, kernel, stride and groups of each layer.

    Names, input resolution and the number of classes do not enter.
    """
    rows = [
        (layer.kind == "linear", layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.groups)
        for layer in graph.body
    ]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()[:16]


def find_ranking(graph: Graph, folder: Path = RANKINGS) -> Ranking | None:
    """The ranking in ``folder`` (by default those shipped with kilotune) that belongs to ``graph``, or None."""
    wanted = fingerprint(graph)
    rankings = (Ranking.load(path) for path in sorted(folder.glob("*.json")))
    return next((ranking for ranking in rankings if ranking.fingerprint == wanted), None)


def layer_rgn(table: ChannelTable, norms: np.ndarray) -> np.ndarray:
    """RGN of each layer (layers,) from the gradient norm of each channel (n_channels,): sum_c n_c / (C_W + C_A).

    TraDy, Eq. 8. Scores of several epochs are added by the caller.
    """
    return np.add.reduceat(norms, table.first) / table.cost


def layer_lara(table: ChannelTable, norms: np.ndarray) -> np.ndarray:
    """LaRa of each layer (layers,) from the gradient norm of each channel (n_channels,): ||dW||_F / (C (C_W + C_A)).

    MeDyate, Eq. 9. Scores of several epochs are added by the caller.
    """
    return np.sqrt(np.add.reduceat(norms**2, table.first)) / (table.channels * table.cost)


def structural(graph: Graph) -> Ranking:
    """A ranking from shapes only, for networks that nobody has ranked: each layer's gradient is taken to have the norm
    C_W^(1/4), spread evenly over its channels.

    The exponent is fitted to one network: on MobileNetV2-w0.35 the Spearman correlation with TraDy's published RGN
    ranks is 0.990 and with the LaRa ranks estimated from its figure 9a 0.959 (0.924 and 0.870 without the factor);
    ``test_structural_agrees_with_published_ranks`` recomputes them. A measured ranking is better where there is one.
    """
    table = ChannelTable.of(graph)
    norms = (table.weight**0.25 / np.sqrt(table.channels))[table.layer_of]
    return Ranking(
        network=graph.model,
        fingerprint=fingerprint(graph),
        layers=table.names,
        rgn=tuple(layer_rgn(table, norms).tolist()),
        lara=tuple(layer_lara(table, norms).tolist()),
        task="none",
        epochs=0,
        provenance={"source": "estimated from layer shapes, no data was seen; measure one with `kilotune rank`"},
    )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman rank correlation of two score vectors; ties share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(scores: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _advice(model: str) -> str:
    return f"compute one with `kilotune rank {model} --data D`"
