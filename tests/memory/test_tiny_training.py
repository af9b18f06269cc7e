"""All fifteen Sparse Update schemes, byte by byte, from captured networks at 128x128."""

import pytest

from kilotune.errors import PlanError
from kilotune.memory.ledger import ledger
from kilotune.memory.tiny_training import scheme_bytes
from kilotune.policies.fit import plan as make_plan
from kilotune.policies.published import BUDGETS
from kilotune.policies.schemes import SCHEMES, Scheme
from tests.oracles.modules import captured
from tests.oracles.zoo import captured_published

NETWORKS = {
    "mobilenet_v2_w0.35": "mobilenet_v2_w0.35_nohead",
    "mcunet_in1": "mcunet_in1",
    "proxylessnas_w0.3": "proxylessnas_w0.3_nomix",
}
# masks, saved inputs with the classifier's, biases, weights, total (notes, section 2.5), weights + inputs in elements.
TABLE = {
    ("mobilenet_v2_w0.35", "49kb"): (10_096, 5_984, 12_512, 22_410, 51_002, 28_282),
    ("mobilenet_v2_w0.35", "73kb"): (14_576, 7_248, 14_752, 39_072, 75_648, 46_208),
    ("mobilenet_v2_w0.35", "99kb"): (18_416, 10_784, 16_672, 55_920, 101_792, 66_592),
    ("mobilenet_v2_w0.35", "123kb"): (23_408, 11_568, 19_168, 72_384, 126_528, 83_840),
    ("mobilenet_v2_w0.35", "138kb"): (27_760, 12_016, 20_000, 81_792, 141_568, 93_696),
    ("mcunet_in1", "49kb"): (16_480, 4_000, 18_368, 12_096, 50_944, 15_936),
    ("mcunet_in1", "74kb"): (17_760, 10_400, 19_008, 29_440, 76_608, 39_680),
    ("mcunet_in1", "99kb"): (18_080, 12_512, 19_168, 52_480, 102_240, 64_832),
    ("mcunet_in1", "124kb"): (20_640, 11_552, 20_448, 75_328, 127_968, 86_720),
    ("mcunet_in1", "148kb"): (19_360, 14_240, 19_808, 98_560, 151_968, 112_640),
    ("proxylessnas_w0.3", "49kb"): (10_816, 5_344, 13_952, 20_736, 50_848, 25_984),
    ("proxylessnas_w0.3", "74kb"): (15_360, 8_800, 16_224, 36_288, 76_672, 44_992),
    ("proxylessnas_w0.3", "98kb"): (12_864, 10_080, 14_976, 62_976, 100_896, 72_960),
    ("proxylessnas_w0.3", "120kb"): (17_280, 11_872, 17_184, 76_800, 123_136, 88_576),
    ("proxylessnas_w0.3", "148kb"): (30_400, 12_384, 19_904, 89_088, 151_776, 101_376),
}


@pytest.mark.parametrize(("network", "name"), TABLE)
def test_published_bytes(network, name):
    found = scheme_bytes(captured_published(NETWORKS[network]), SCHEMES[network][name])
    assert (found.masks, found.saved_inputs, found.biases, found.weights, found.total) == TABLE[network, name][:5]


@pytest.mark.parametrize(("network", "name"), TABLE)
def test_published_selection(network, name):
    """The plan that the policy draws costs what the scheme says, in the ledger that budgets are counted in."""
    graph = captured_published(NETWORKS[network])
    report = ledger(graph, make_plan(graph, "sparse_update", "10MiB", scheme=name))
    _, saved, _, weights, _, elements = TABLE[network, name]
    assert report.selection_elements == elements
    assert report.selection_bytes == 4 * elements
    assert report.weight_elements == weights
    assert report.activation_elements == saved - graph.layer[graph.classifier].in_channels


@pytest.mark.parametrize("network", NETWORKS)
def test_nine_published_budgets(network):
    """First, third and fifth scheme. Published for the first of MobileNetV2: 27,946, in which the 42 chosen channels of
    the depthwise layer 49 have one weight each instead of nine."""
    names = list(SCHEMES[network])[::2]
    elements = [TABLE[network, name][5] for name in names]
    assert TABLE["mobilenet_v2_w0.35", "49kb"][5] - 42 * 8 == 27_946
    assert tuple(27_946 if n == 28_282 else n for n in elements) == BUDGETS[network]


def test_the_table_is_complete():
    assert set(TABLE) == {(network, name) for network, schemes in SCHEMES.items() for name in schemes}


@pytest.mark.parametrize("scheme", [Scheme(9, {}), Scheme(1, {1: 1.0}), Scheme(1, {-1: 1.0})])
def test_schemes_of_other_networks(scheme):
    with pytest.raises(
        PlanError, match="Between has 1 convolutions and classifier head; use the network it was made for"
    ):
        scheme_bytes(captured("nn.ReLU"), scheme)
