"""A Sparse Update scheme that was searched for on some network, as a small JSON file."""

from dataclasses import dataclass, field
from pathlib import Path

from kilotune.errors import PlanError
from kilotune.graph.node import Graph
from kilotune.policies.files import load_json, save_json
from kilotune.policies.ranking import fingerprint
from kilotune.policies.schemes import Scheme

FOUND_VERSION = 1


@dataclass(frozen=True)
class FoundScheme:
    """n_bias: the biases of this many last layers before the classifier are trained. ratios: share of input channels
    trained, by row: 0 is the first trainable layer, the classifier does not count.

    fingerprint: that of the network. gain: what the search maximised. provenance: how it came about, free text by key.
    """

    network: str
    fingerprint: str
    n_bias: int
    ratios: dict[int, float]
    gain: float
    provenance: dict[str, str] = field(default_factory=dict)
    version: int = FOUND_VERSION

    def __post_init__(self):
        if self.version != FOUND_VERSION:
            raise PlanError(f"the scheme has version {self.version}, this kilotune reads version {FOUND_VERSION}")
        if self.n_bias < 0 or any(row < 0 or not 0 < ratio <= 1 for row, ratio in self.ratios.items()):
            raise PlanError(f"a scheme needs n_bias from 0 and ratios in (0, 1]; found {self.n_bias} and {self.ratios}")

    @property
    def scheme(self) -> Scheme:
        """The scheme alone."""
        return Scheme(self.n_bias, self.ratios)

    def check(self, graph: Graph) -> None:
        """Raises PlanError unless the scheme was found for a network of the structure of ``graph``."""
        n_layers, ours = len(graph.body), fingerprint(graph)
        if self.fingerprint != ours or self.n_bias > n_layers or any(row >= n_layers for row in self.ratios):
            raise PlanError(
                f"the scheme was found for {self.network} ({self.fingerprint}), the network is {graph.model} ({ours}, "
                f"{n_layers} layers); find one with `kilotune search {graph.model} --data D`"
            )

    def save(self, path: Path) -> None:
        """Write the scheme as JSON, complete or not at all."""
        save_json(path, self)

    @classmethod
    def load(cls, path: Path) -> "FoundScheme":
        """The scheme that ``save`` wrote. Raises PlanError if the file is missing or anything else."""
        return load_json(path, cls, "a scheme", PlanError, "find one with `kilotune search`")
