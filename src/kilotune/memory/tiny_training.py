"""The int8 accounting of Sparse Update (arXiv 2206.15472; mit-han-lab/tiny-training), in which its schemes are named."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Protocol

from kilotune.errors import PlanError
from kilotune.graph.node import Graph, Layer

_BIAS_BYTES = 4  # int32; weights and activations are int8


class SchemeLike(Protocol):
    """What is trained, as ``policies.schemes`` has it; 0 is the stem, the classifier does not count."""

    @property
    def n_bias(self) -> int:
        """The biases of this many last convolutions are trained."""

    @property
    def ratios(self) -> Mapping[int, float]:
        """Share of input channels trained, by index of the convolution."""


@dataclass(frozen=True)
class SchemeBytes:
    """Bytes of a scheme at batch 1. masks: one bit per output of each trained layer; saved_inputs: int8, kept channels and
    the classifier's input; biases: int32; weights: int8, the updatable copy. 1 kB = 1024 B in the schemes' names."""

    masks: int
    saved_inputs: int
    biases: int
    weights: int

    @property
    def total(self) -> int:
        """Sum of the four; gradients, the forward pass, momentum and the classifier's weights are not part of it."""
        return self.masks + self.saved_inputs + self.biases + self.weights


def scheme_bytes(graph: Graph, scheme: SchemeLike) -> SchemeBytes:
    """What ``scheme`` costs on ``graph`` by the authors' own accounting.

    Raises PlanError if the network has no classifier or not the convolutions that the scheme names.
    """
    convs = [layer for layer in graph.body if layer.kind != "linear"]
    first = len(convs) - scheme.n_bias
    if graph.classifier is None or first < 0 or any(not first <= index < len(convs) for index in scheme.ratios):
        raise PlanError(
            f"the scheme trains biases of the last {scheme.n_bias} convolutions and channels of {sorted(scheme.ratios)}; "
            f"{graph.model} has {len(convs)} convolutions and classifier {graph.classifier}; use the network it was made for"
        )
    kept = [(convs[index], _n_channels(convs[index], ratio)) for index, ratio in scheme.ratios.items()]
    return SchemeBytes(
        sum(layer.output_elements for layer in convs[first:]) // 8,
        sum(n * layer.channel_input_elements for layer, n in kept) + graph.layer[graph.classifier].in_channels,
        _BIAS_BYTES * sum(layer.out_channels for layer in convs[first:]),
        sum(n * layer.channel_weight_elements for layer, n in kept),
    )


def _n_channels(layer: Layer, ratio: float) -> int:
    return floor(layer.in_channels * ratio)
