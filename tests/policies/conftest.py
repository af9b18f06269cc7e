"""Networks built by hand from the papers' layer tables, and random ones."""

import re

import numpy as np
import pytest
from hypothesis import strategies as st

from kilotune.graph.node import Graph, Input, Layer, Node, TensorInfo

# type/kernel Cin>Cout@input size, at 128x128 (TraDy notes, appendix B; "mix" is the feature-mix convolution).
MOBILENET_V2 = """stem/k3 3>16@128 dw/k3 16>16@64 pw2/k1 16>8@64
pw1/k1 8>48@64 dw/k3 48>48@64 pw2/k1 48>8@32 pw1/k1 8>48@32 dw/k3 48>48@32 pw2/k1 48>8@32
pw1/k1 8>48@32 dw/k3 48>48@32 pw2/k1 48>16@16 pw1/k1 16>96@16 dw/k3 96>96@16 pw2/k1 96>16@16
pw1/k1 16>96@16 dw/k3 96>96@16 pw2/k1 96>16@16 pw1/k1 16>96@16 dw/k3 96>96@16 pw2/k1 96>24@8
pw1/k1 24>144@8 dw/k3 144>144@8 pw2/k1 144>24@8 pw1/k1 24>144@8 dw/k3 144>144@8 pw2/k1 144>24@8
pw1/k1 24>144@8 dw/k3 144>144@8 pw2/k1 144>24@8 pw1/k1 24>144@8 dw/k3 144>144@8 pw2/k1 144>32@8
pw1/k1 32>192@8 dw/k3 192>192@8 pw2/k1 192>32@8 pw1/k1 32>192@8 dw/k3 192>192@8 pw2/k1 192>32@8
pw1/k1 32>192@8 dw/k3 192>192@8 pw2/k1 192>56@4 pw1/k1 56>336@4 dw/k3 336>336@4 pw2/k1 336>56@4
pw1/k1 56>336@4 dw/k3 336>336@4 pw2/k1 336>56@4 pw1/k1 56>336@4 dw/k3 336>336@4 pw2/k1 336>112@4
mix/k1 112>448@4"""

MCUNET_IN1 = """stem/k3 3>16@128 dw/k3 16>16@64 pw2/k1 16>8@64
pw1/k1 8>32@64 dw/k3 32>32@64 pw2/k1 32>16@32 pw1/k1 16>48@32 dw/k3 48>48@32 pw2/k1 48>16@32
pw1/k1 16>48@32 dw/k7 48>48@32 pw2/k1 48>24@16 pw1/k1 24>120@16 dw/k3 120>120@16 pw2/k1 120>24@16
pw1/k1 24>120@16 dw/k3 120>120@16 pw2/k1 120>40@8 pw1/k1 40>160@8 dw/k7 160>160@8 pw2/k1 160>40@8
pw1/k1 40>160@8 dw/k5 160>160@8 pw2/k1 160>48@8 pw1/k1 48>144@8 dw/k3 144>144@8 pw2/k1 144>48@8
pw1/k1 48>192@8 dw/k3 192>192@8 pw2/k1 192>48@8 pw1/k1 48>240@8 dw/k7 240>240@8 pw2/k1 240>96@4
pw1/k1 96>384@4 dw/k5 384>384@4 pw2/k1 384>96@4 pw1/k1 96>384@4 dw/k5 384>384@4 pw2/k1 384>96@4
pw1/k1 96>576@4 dw/k3 576>576@4 pw2/k1 576>160@4"""

PROXYLESSNAS = """stem/k3 3>16@128 dw/k3 16>16@64 pw2/k1 16>8@64
pw1/k1 8>24@64 dw/k5 24>24@64 pw2/k1 24>16@32 pw1/k1 16>48@32 dw/k3 48>48@32 pw2/k1 48>16@32
pw1/k1 16>48@32 dw/k7 48>48@32 pw2/k1 48>16@16 pw1/k1 16>48@16 dw/k3 48>48@16 pw2/k1 48>16@16
pw1/k1 16>48@16 dw/k5 48>48@16 pw2/k1 48>16@16 pw1/k1 16>48@16 dw/k5 48>48@16 pw2/k1 48>16@16
pw1/k1 16>96@16 dw/k7 96>96@16 pw2/k1 96>24@8 pw1/k1 24>72@8 dw/k5 72>72@8 pw2/k1 72>24@8
pw1/k1 24>72@8 dw/k5 72>72@8 pw2/k1 72>24@8 pw1/k1 24>72@8 dw/k5 72>72@8 pw2/k1 72>24@8
pw1/k1 24>144@8 dw/k5 144>144@8 pw2/k1 144>32@8 pw1/k1 32>96@8 dw/k5 96>96@8 pw2/k1 96>32@8
pw1/k1 32>96@8 dw/k5 96>96@8 pw2/k1 96>32@8 pw1/k1 32>96@8 dw/k5 96>96@8 pw2/k1 96>32@8
pw1/k1 32>192@8 dw/k7 192>192@8 pw2/k1 192>64@4 pw1/k1 64>384@4 dw/k7 384>384@4 pw2/k1 384>64@4
pw1/k1 64>192@4 dw/k7 192>192@4 pw2/k1 192>64@4 pw1/k1 64>192@4 dw/k7 192>192@4 pw2/k1 192>64@4
pw1/k1 64>384@4 dw/k7 384>384@4 pw2/k1 384>96@4 mix/k1 96>384@4"""

# Per convolution of MobileNetV2-w0.35 with feature mix: sum of channel norms (TraDy, figure 9a), RGN rank (figure 9c),
# and the LaRa rank that the notes estimate from the norms.
PUBLISHED_NORMS = """0.035 0.059 0.058 0.060 0.106 0.120 0.060 0.144 0.121 0.061 0.102 0.157 0.108 0.230 0.251 0.106
0.197 0.226 0.123 0.189 0.298 0.153 0.238 0.326 0.168 0.254 0.342 0.156 0.219 0.309 0.189 0.275 0.433 0.239 0.314 0.489
0.249 0.299 0.498 0.282 0.340 0.691 0.434 0.392 0.927 0.443 0.345 0.834 0.445 0.265 0.949 0.609"""
PUBLISHED_RGN_RANKS = """52 50 51 49 48 44 47 42 43 46 45 38 40 31 29 41 34 32 39 37 20 36 18 17 33 15 16 35 21 19 30 14
13 28 11 10 27 12 9 26 8 6 25 1 4 24 2 5 23 3 7 22"""
ESTIMATED_LARA_RANKS = """46 50 51 44 52 48 19 45 47 18 49 33 9 40 39 10 42 41 6 43 12 4 29 23 2 26 20 3 32 25 1 22 16 8
35 28 7 36 27 5 31 11 15 17 24 14 21 30 13 34 37 38"""


def layer(name, in_channels, out_channels, kernel=1, stride=1, groups=1, size=8, kind="conv2d", seed=0):
    """One layer with made-up weight norms."""
    norms = np.random.default_rng(seed).uniform(0.1, 1, in_channels)
    output = -(-size // stride)
    return Layer(
        name, name, kind, in_channels, out_channels, (kernel, kernel), (stride, stride), groups,
        (size, size), (output, output), True, tuple(norms.tolist()),
    )  # fmt: skip


def chain(layers, model="chain", n_classes=10):
    """A network whose trainable layers are ``layers`` and a classifier; no nodes but the input."""
    head = layer("classifier", layers[-1].out_channels, n_classes, size=1, kind="linear")
    image = Node("x", Input(), (), TensorInfo((1, layers[0].in_channels, *layers[0].input_hw)))
    return Graph(model, (image,), "classifier", (*layers, head), "classifier")


def parse(spec, model, n_layers=None, scale=1, n_classes=10):
    """A network of one of the tables above, its first ``n_layers`` only, with inputs ``scale`` times as large."""
    rows = re.findall(r"(\w+)/k(\d+) (\d+)>(\d+)@(\d+)", spec)
    sizes = [int(row[4]) for row in rows]
    layers = []
    for index, (kind, *numbers) in enumerate(rows[:n_layers]):
        kernel, cin, cout, size = map(int, numbers)
        stride = size // [*sizes[1:], sizes[-1]][index]
        depthwise = kind == "dw"
        groups, name = (cin, "depthwise_conv2d") if depthwise else (1, "conv2d")
        layers.append(layer(f"conv{index}", cin, cout, kernel, stride, groups, size * scale, name, seed=index))
    return chain(layers, model, n_classes)


@pytest.fixture(scope="session")
def mobilenet():
    """MobileNetV2-w0.35 with the feature-mix convolution."""
    return parse(MOBILENET_V2, "mobilenet_v2_w0.35_mix")


@pytest.fixture(scope="session")
def mobilenet_plain():
    """MobileNetV2-w0.35 without the feature-mix convolution."""
    return parse(MOBILENET_V2, "mobilenet_v2_w0.35", 51)


@pytest.fixture(scope="session")
def mcunet():
    """MCUNet-in1."""
    return parse(MCUNET_IN1, "mcunet_in1")


@pytest.fixture(scope="session")
def proxyless():
    """ProxylessNAS-w0.3 with the feature-mix convolution."""
    return parse(PROXYLESSNAS, "proxylessnas_w0.3_mix")


@pytest.fixture(scope="session")
def proxyless_plain():
    """ProxylessNAS-w0.3 without the feature-mix convolution."""
    return parse(PROXYLESSNAS, "proxylessnas_w0.3", 60)


@pytest.fixture(scope="session")
def build():
    """The helpers above, for tests that build their own networks."""

    class Build:
        pass

    Build.layer, Build.chain, Build.parse = staticmethod(layer), staticmethod(chain), staticmethod(parse)
    Build.mobilenet_v2 = MOBILENET_V2
    return Build


@pytest.fixture(scope="session")
def figure9():
    """TraDy's figure 9 for MobileNetV2-w0.35 with feature mix: (norm sums, RGN ranks, estimated LaRa ranks)."""
    return tuple(
        np.array([float(word) for word in text.split()])
        for text in (PUBLISHED_NORMS, PUBLISHED_RGN_RANKS, ESTIMATED_LARA_RANKS)
    )


@pytest.fixture(scope="session")
def networks():
    """A hypothesis strategy: chains of 1 to 8 convolutions, some depthwise, and linear layers."""
    row = st.tuples(
        st.sampled_from(["dense", "depthwise", "grouped", "linear"]),
        st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 2), st.integers(1, 12),
    )  # fmt: skip

    def build_layer(index, row):
        kind, cin, cout, kernel, stride, size = row
        name = f"layer{index}"
        shapes = {
            "dense": lambda: layer(name, cin, cout, kernel, stride, 1, size, seed=index),
            "depthwise": lambda: layer(name, cin, cin, kernel, stride, cin, size, "depthwise_conv2d", seed=index),
            "grouped": lambda: layer(name, 2 * cin, 2 * cout, kernel, stride, 2, size, seed=index),
            "linear": lambda: layer(name, cin, cout, size=size, kind="linear", seed=index),
        }
        return shapes[kind]()

    return st.lists(row, min_size=1, max_size=8).map(
        lambda rows: chain([build_layer(index, row) for index, row in enumerate(rows)])
    )
