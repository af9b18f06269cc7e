"""What training one part of a network gains: the table that the scheme search adds up (Sparse Update, section 2.2)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kilotune.errors import PlanError
from kilotune.policies.files import load_json, save_json

Score = Literal["gradient", "loss", "accuracy"]
CONTRIBUTIONS_VERSION = 1
RATIOS = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of a layer's input channels that are tried (the paper's)."""
CLASSIFIER = "classifier"


def bias_part(n_layers: int) -> str:
    """Name of the biases of the last ``n_layers`` layers."""
    return f"bias {n_layers}" if n_layers else CLASSIFIER


def weight_part(row: int, ratio: float) -> str:
    """Name of the share ``ratio`` of the input channels of layer ``row``, trained with all biases that are tried."""
    return f"weight {row} {ratio:g}"


@dataclass(frozen=True)
class Contributions:
    """Scores of a network with one part trained at a time, higher is better.

    values: score by name of the part. score: "accuracy" or minus the "loss" after a short fine-tuning, or "gradient": the
    first-order decrease of the loss per unit of learning rate. n_bias: the biases of this many last layers are trained
    with the weights of each layer. recipe: of the measurement, JSON; two tables may be mixed only if it is the same.
    """

    network: str
    fingerprint: str
    layers: tuple[str, ...]
    score: Score
    n_bias: int
    recipe: str
    values: dict[str, float]
    version: int = CONTRIBUTIONS_VERSION

    def __post_init__(self):
        if self.version != CONTRIBUTIONS_VERSION:
            raise PlanError(
                f"the contributions of {self.network} have version {self.version}, this kilotune reads version "
                f"{CONTRIBUTIONS_VERSION}; measure them again"
            )

    def but(self, values: dict[str, float]) -> "Contributions":
        """The same measurement with ``values`` added."""
        return replace(self, values=self.values | values)

    def bias_gains(self) -> np.ndarray:
        """Gain of the biases of the last k layers over the classifier alone, k = 0 .. n_bias; linear between the k measured."""
        measured = [k for k in range(self.n_bias + 1) if bias_part(k) in self.values]
        gains = [self.values[bias_part(k)] - self.values[CLASSIFIER] for k in measured]
        return np.interp(np.arange(self.n_bias + 1), measured, gains)

    def weight_gains(self) -> np.ndarray:
        """Gain of each ratio of each layer over the biases alone (layers, 1 + ratios); 0 for none.

        Linear between the ratios measured; -inf for those above, and where none was.
        """
        gains = np.full((len(self.layers), 1 + len(RATIOS)), -np.inf)
        gains[:, 0] = 0
        for row in range(len(self.layers)):
            measured = [ratio for ratio in RATIOS if weight_part(row, ratio) in self.values]
            values = [self.values[weight_part(row, ratio)] - self.values[bias_part(self.n_bias)] for ratio in measured]
            for place, ratio in enumerate(RATIOS, start=1):
                if measured and ratio <= measured[-1]:
                    gains[row, place] = np.interp(ratio, [0, *measured], [0, *values])
        return gains

    def save(self, path: Path) -> None:
        """Write the table as JSON, complete or not at all."""
        save_json(path, self)

    @classmethod
    def load(cls, path: Path) -> "Contributions":
        """The table that ``save`` wrote. Raises PlanError if the file is missing or anything else."""
        return load_json(path, cls, "contributions", PlanError, "let `kilotune search` measure them")
