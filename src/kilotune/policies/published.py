"""The three networks of the Sparse Update, TraDy and MeDyate papers: how to recognise them, and what was published."""

from typing import NamedTuple

from kilotune.graph.node import Graph
from kilotune.policies.ranking import fingerprint

BUDGETS: dict[str, tuple[int, int, int]] = {
    # 27,946 is the papers' number; the correct cost of the scheme it comes from is 28,282. The 42 channels of the
    # depthwise layer 49 were charged 1 weight each instead of 9, 336 elements less. No other scheme has such a layer.
    "mobilenet_v2_w0.35": (27_946, 66_592, 93_696),
    "mcunet_in1": (15_936, 64_832, 112_640),
    "proxylessnas_w0.3": (25_984, 72_960, 101_376),
}
"""Budgets B_mem of TraDy and MeDyate in elements (weights + inputs): the 1st, 3rd and 5th Sparse Update scheme."""


class PublishedNetwork(NamedTuple):
    """schemes: key of ``SCHEMES`` and ``BUDGETS``. n_scheme_convs: convolutions that Sparse Update counts, a
    feature-mix convolution behind them not included. trady_k: K of TraDy, None where the paper
    used another variant of the network."""

    schemes: str
    n_scheme_convs: int
    trady_k: int | None


NETWORKS: dict[str, PublishedNetwork] = {
    "6706a77eecf7ce0d": PublishedNetwork("mobilenet_v2_w0.35", 51, 35),
    "6dc441aaf4e54e0f": PublishedNetwork("mobilenet_v2_w0.35", 51, None),
    "6b7ba3d8cdce71ab": PublishedNetwork("mobilenet_v2_w0.35", 51, None),
    "5835d28603959835": PublishedNetwork("mcunet_in1", 42, 27),
    "99ce2c4b18228948": PublishedNetwork("proxylessnas_w0.3", 60, 43),
    "9c3b1b0dc8ab8805": PublishedNetwork("proxylessnas_w0.3", 60, None),
}
"""By structural fingerprint. Where there are several, the first has the scaled feature-mix convolution (TraDy and
MeDyate), the second none (Sparse Update), the third the one of 1280 channels (torchvision, Keras)."""


def find_network(graph: Graph) -> PublishedNetwork | None:
    """The published network that ``graph`` is, at whatever resolution and number of classes; None if it is another."""
    return NETWORKS.get(fingerprint(graph))
