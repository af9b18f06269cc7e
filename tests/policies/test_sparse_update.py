"""All fifteen schemes against the table of the notes (section 2.5), on networks built from the papers' layer tables."""

from math import prod

import numpy as np
import pytest

from kilotune.errors import PlanError
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.policies.schemes import SCHEMES
from kilotune.rng import Pcg32

# scheme: sign-mask B, saved inputs B (classifier input included), biases B (int32), weights B (int8), weights + inputs
TABLE = {
    "mobilenet_plain": {
        "49kb": (10_096, 5_984, 12_512, 22_410, 28_282), "73kb": (14_576, 7_248, 14_752, 39_072, 46_208),
        "99kb": (18_416, 10_784, 16_672, 55_920, 66_592), "123kb": (23_408, 11_568, 19_168, 72_384, 83_840),
        "138kb": (27_760, 12_016, 20_000, 81_792, 93_696),
    },
    "mcunet": {
        "49kb": (16_480, 4_000, 18_368, 12_096, 15_936), "74kb": (17_760, 10_400, 19_008, 29_440, 39_680),
        "99kb": (18_080, 12_512, 19_168, 52_480, 64_832), "124kb": (20_640, 11_552, 20_448, 75_328, 86_720),
        "148kb": (19_360, 14_240, 19_808, 98_560, 112_640),
    },
    "proxyless_plain": {
        "49kb": (10_816, 5_344, 13_952, 20_736, 25_984), "74kb": (15_360, 8_800, 16_224, 36_288, 44_992),
        "98kb": (12_864, 10_080, 14_976, 62_976, 72_960), "120kb": (17_280, 11_872, 17_184, 76_800, 88_576),
        "148kb": (30_400, 12_384, 19_904, 89_088, 101_376),
    },
}  # fmt: skip
CELLS = [(network, scheme) for network, schemes in TABLE.items() for scheme in schemes]
WITH_MIX = {"mobilenet_plain": "mobilenet", "proxyless_plain": "proxyless"}


def accounts(task, size):
    """The five columns of the table for one scheme, the classifier's input added."""
    graph, table = task.graph, task.table
    bound = make("sparse_update").bound(task, size)
    caps = np.array(bound.caps)
    biased = [graph.layer[name] for name in bound.biases]
    head_input = graph.layer[graph.classifier].in_channels
    return (
        sum(layer.output_elements for layer in biased) // 8,
        int(caps @ table.activation) + head_input,
        4 * sum(layer.out_channels for layer in biased),
        int(caps @ table.weight),
        bound.elements,
    )


@pytest.mark.parametrize(("network", "scheme"), CELLS)
def test_published_accounts(request, network, scheme):
    task = Task.of(request.getfixturevalue(network))
    (size,) = make("sparse_update", scheme=scheme).sizes(task)
    assert accounts(task, size) == TABLE[network][scheme]


@pytest.mark.parametrize(("network", "scheme"), [cell for cell in CELLS if cell[0] in WITH_MIX])
def test_feature_mix_changes_nothing(request, network, scheme):
    plain, mixed = (Task.of(request.getfixturevalue(name)) for name in (network, WITH_MIX[network]))
    policy = make("sparse_update", scheme=scheme)
    (size,) = policy.sizes(plain)
    assert policy.bound(mixed, size).caps == (*policy.bound(plain, size).caps, 0)
    assert policy.bound(mixed, size).biases == policy.bound(plain, size).biases


def test_wide_feature_mix_is_known_too(build, mobilenet_plain):
    """Torchvision and Keras end in 1280 channels whatever the width."""
    layers = [*mobilenet_plain.body, build.layer("mix", 112, 1280, size=4)]
    assert len(make("sparse_update").sizes(Task.of(build.chain(layers)))) == 5


def test_sizes_ascend(mcunet):
    task, policy = Task.of(mcunet), make("sparse_update")
    elements = [policy.bound(task, size).elements for size in policy.sizes(task)]
    assert elements == sorted(elements)
    assert len(elements) == 5


def test_channels_of_largest_norm(mcunet):
    task = Task.of(mcunet)
    sets = {one.layer: one for one in make("sparse_update").draw(task, 0, State(), Pcg32(0))}
    assert {name: len(one.indices) for name, one in sets.items()} == {"conv24": 12, "conv27": 24, "conv30": 24}
    for name, one in sets.items():
        norms = mcunet.layer[name].input_norms
        left_out = [norm for channel, norm in enumerate(norms) if channel not in one.indices]
        assert min(norms[channel] for channel in one.indices) >= max(left_out)


def test_first_channels(mcunet):
    sets = make("sparse_update", channels="first").draw(Task.of(mcunet), 0, State(), Pcg32(0))
    assert [(one.layer, one.axis, one.indices) for one in sets] == [
        ("conv24", "in", tuple(range(12))), ("conv27", "in", tuple(range(24))), ("conv30", "in", tuple(range(24))),
    ]  # fmt: skip


def test_other_networks_have_no_scheme(build):
    task = Task.of(build.chain([build.layer("a", 3, 4)], model="mine"))
    with pytest.raises(PlanError, match=r"published for mine; .* mobilenet_v2_w0.35, mcunet_in1, proxylessnas_w0.3"):
        make("sparse_update").sizes(task)


def test_unknown_scheme_lists_those_there_are(mcunet):
    with pytest.raises(PlanError, match="no Sparse Update scheme '50kb'; its schemes are 49kb, 74kb, 99kb, 124kb"):
        make("sparse_update", scheme="50kb").sizes(Task.of(mcunet))


def test_schemes_name_their_convolutions_in_order():
    for schemes in SCHEMES.values():
        assert all(list(scheme.ratios) == sorted(scheme.ratios) for scheme in schemes.values())
    assert prod(len(schemes) for schemes in SCHEMES.values()) == 5**3
