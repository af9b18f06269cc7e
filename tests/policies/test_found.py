"""A found scheme as a file, and as what sparse_update trains."""

from dataclasses import replace

import pytest

from kilotune.errors import PlanError
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.policies.found import FoundScheme
from kilotune.policies.ranking import fingerprint
from kilotune.policies.schemes import SCHEMES
from kilotune.rng import Pcg32


def found(graph, n_bias, ratios):
    return FoundScheme(graph.model, fingerprint(graph), n_bias, ratios, gain=1.5, provenance={"seed": "0"})


def test_a_shipped_scheme_from_a_file_is_the_shipped_scheme(tmp_path, mcunet):
    path, task = tmp_path / "scheme.json", Task.of(mcunet)
    for index, scheme in enumerate(SCHEMES["mcunet_in1"].values()):
        ratios = {row: ratio for row, ratio in scheme.ratios.items() if ratio}
        found(mcunet, scheme.n_bias, ratios).save(path)
        policy = make("sparse_update", scheme=str(path))
        assert policy.sizes(task) == range(1)
        assert policy.bound(task, 0) == make("sparse_update").bound(task, index)
        drawn = policy.draw(task, 0, State(), Pcg32(0))
        assert drawn == make("sparse_update").draw(task, index, State(), Pcg32(0))


def test_any_network_and_any_layer(tmp_path, build):
    graph = build.chain([build.layer("a", 3, 8), build.layer("b", 8, 6, kind="linear", size=1)], model="mine")
    scheme = found(graph, 0, {1: 0.5})
    scheme.save(tmp_path / "scheme.json")
    assert FoundScheme.load(tmp_path / "scheme.json") == scheme
    bound = make("sparse_update", scheme=str(tmp_path / "scheme.json")).bound(Task.of(graph), 0)
    assert (bound.caps, bound.biases) == ((0, 4), ())


def test_another_network_is_refused(tmp_path, mcunet, proxyless):
    path = tmp_path / "scheme.json"
    found(mcunet, 3, {40: 1.0}).save(path)
    with pytest.raises(PlanError, match=r"found for mcunet_in1 .*, the network is proxylessnas_w0.3_mix .* 61 layers"):
        make("sparse_update", scheme=str(path)).sizes(Task.of(proxyless))
    replace(found(mcunet, 3, {}), ratios={99: 1.0}).save(path)
    with pytest.raises(PlanError, match="42 layers"):
        make("sparse_update", scheme=str(path)).sizes(Task.of(mcunet))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5", "1.5", r"ratios in \(0, 1\]; found 3 and \{40: 1.5\}"),
        ('"n_bias": 3', '"n_bias": -3', "n_bias from 0"),
        ('"version": 1', '"version": 2', "has version 2, this kilotune reads version 1"),
        ('"gain"', '"loss"', "cannot read a scheme from .*gain.*; find one with `kilotune search`"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, mcunet, old, new, message):
    path = tmp_path / "scheme.json"
    found(mcunet, 3, {40: 0.5}).save(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(PlanError, match=message):
        make("sparse_update", scheme=str(path)).sizes(Task.of(mcunet))


def test_a_missing_file_is_refused(mcunet):
    with pytest.raises(PlanError, match=r"cannot read a scheme from none.json"):
        make("sparse_update", scheme="none.json").sizes(Task.of(mcunet))
