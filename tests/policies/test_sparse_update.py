"""All fifteen schemes against the table of the notes (section 2.5), on networks built from the papers' layer tables."""

from math import prod

import pytest

from kilotune.errors import PlanError
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.policies.schemes import SCHEMES
from kilotune.rng import Pcg32

# Weights + saved inputs of each scheme in elements (notes, section 2.5); bytes by kind are in memory/test_tiny_training.py.
TABLE = {
    "mobilenet_plain": {"49kb": 28_282, "73kb": 46_208, "99kb": 66_592, "123kb": 83_840, "138kb": 93_696},
    "mcunet": {"49kb": 15_936, "74kb": 39_680, "99kb": 64_832, "124kb": 86_720, "148kb": 112_640},
    "proxyless_plain": {"49kb": 25_984, "74kb": 44_992, "98kb": 72_960, "120kb": 88_576, "148kb": 101_376},
}
CELLS = [(network, scheme) for network, schemes in TABLE.items() for scheme in schemes]
WITH_MIX = {"mobilenet_plain": "mobilenet", "proxyless_plain": "proxyless"}


@pytest.mark.parametrize(("network", "scheme"), CELLS)
def test_published_accounts(request, network, scheme):
    task = Task.of(request.getfixturevalue(network))
    (size,) = make("sparse_update", scheme=scheme).sizes(task)
    assert make("sparse_update").bound(task, size).elements == TABLE[network][scheme]


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
