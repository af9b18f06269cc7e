"""Layer rankings: formulas, files, recognition of networks, and the estimate from shapes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import RankingError
from kilotune.memory.cost import ChannelTable
from kilotune.policies.ranking import (
    Ranking,
    find_ranking,
    fingerprint,
    layer_lara,
    layer_rgn,
    spearman,
    structural,
)


def test_scores_equal_their_definition(mcunet):
    table = ChannelTable.of(mcunet)
    norms = np.random.default_rng(0).uniform(size=table.n_channels)
    rgn, lara = layer_rgn(table, norms), layer_lara(table, norms)
    for row, layer in enumerate(mcunet.body):
        own = norms[table.ids(row)]
        assert rgn[row] == pytest.approx(sum(norm / layer.channel_cost_elements for norm in own))
        assert lara[row] == pytest.approx(sum(own**2) ** 0.5 / (layer.weight_elements + layer.input_elements))


def test_published_norms_give_the_published_order(mobilenet, figure9):
    """Figure 9a over the cost is figure 9c: exactly with the cost as the paper had it, nearly with the correct one."""
    table = ChannelTable.of(mobilenet)
    sums, rgn_ranks, lara_ranks = figure9
    norms = (sums / table.channels)[table.layer_of]
    # 1 weight instead of 9 per channel of a depthwise layer, but for the first one.
    depthwise = np.array([layer.groups > 1 and layer.name != "conv1" for layer in mobilenet.body])
    papers = replace(table, weight=np.where(depthwise, 1, table.weight))
    assert np.array_equal(np.argsort(-layer_rgn(papers, norms)), np.argsort(rgn_ranks))
    assert spearman(layer_rgn(table, norms), -rgn_ranks) > 0.995
    assert spearman(layer_lara(table, norms), -lara_ranks) > 0.999


def test_structural_agrees_with_published_ranks(mobilenet, figure9):
    """The correlations that the docstring of ``structural`` states, to the digit."""
    _, rgn_ranks, lara_ranks = figure9
    ranking = structural(mobilenet)
    assert spearman(ranking.scores("rgn"), -rgn_ranks) == pytest.approx(0.990, abs=0.0005)
    assert spearman(ranking.scores("lara"), -lara_ranks) == pytest.approx(0.959, abs=0.0005)
    table = ChannelTable.of(mobilenet)
    even = (1 / np.sqrt(table.channels))[table.layer_of]
    assert spearman(layer_rgn(table, even), -rgn_ranks) == pytest.approx(0.924, abs=0.0005)
    assert spearman(layer_lara(table, even), -lara_ranks) == pytest.approx(0.870, abs=0.0005)
    assert ranking.epochs == 0
    assert "no data" in ranking.provenance["source"]


def test_the_shipped_ranking_agrees_with_published_ranks(mobilenet, figure9):
    """Measured by ``benchmarks/rank_zoo.py`` on the network of TraDy, section 1.3: both above the target of 0.8."""
    _, rgn_ranks, lara_ranks = figure9
    ranking = find_ranking(mobilenet)
    assert ranking is not None
    assert ranking.epochs > 0
    assert spearman(ranking.scores("rgn"), -rgn_ranks) > 0.8
    assert spearman(ranking.scores("lara"), -lara_ranks) > 0.8


def test_file_round_trip(tmp_path, mcunet):
    path = tmp_path / "mcunet.json"
    ranking = replace(structural(mcunet), task="cifar10", epochs=3, provenance={"seed": "0"})
    ranking.save(path)
    assert Ranking.load(path) == ranking
    assert [file.name for file in tmp_path.iterdir()] == ["mcunet.json"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"version": 1', b'"version": 7', "has version 7, this kilotune reads version 1"),
        (b'"version": 1', b'"version": ', "cannot read a ranking from"),
        (b'"rgn"', b'"rng"', "cannot read a ranking from .* missing required field `rgn`"),
        (b'"conv0",', b"", "needs one finite rgn from 0 for each of its 41 layers, found 42"),
        (b'"rgn": [\n  ', b'"rgn": [\n  -', "needs one finite rgn from 0"),
        (b'"rgn": [\n  ', b'"rgn": [\n  "x", ', "cannot read a ranking from"),
    ],
)
def test_corrupt_files_are_refused(tmp_path, mcunet, old, new, message):
    path = tmp_path / "ranking.json"
    structural(mcunet).save(path)
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new, 1))
    with pytest.raises(RankingError, match=message) as caught:
        Ranking.load(path)
    assert "kilotune rank" in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RankingError, match=r"cannot read a ranking from .*absent\.json"):
        Ranking.load(tmp_path / "absent.json")


def test_ranking_of_another_network_is_refused(mcunet, mobilenet):
    structural(mcunet).check(mcunet)
    with pytest.raises(RankingError, match=r"that of mcunet_in1 .*kilotune rank mobilenet_v2_w0.35_mix --data D"):
        structural(mcunet).check(mobilenet)


def test_fingerprint_ignores_names_resolution_and_classes(build, mobilenet, mobilenet_plain):
    twin = build.parse(build.mobilenet_v2, "another", scale=2, n_classes=3)
    renamed = replace(twin, layers=tuple(replace(layer, name=f"x.{layer.name}") for layer in twin.layers[:-1]))
    assert fingerprint(renamed) == fingerprint(twin) == fingerprint(mobilenet) != fingerprint(mobilenet_plain)


@pytest.mark.parametrize(
    "change",
    [
        {"in_channels": 5},
        {"out_channels": 5},
        {"kernel": (3, 1)},
        {"stride": (2, 2)},
        {"groups": 2},
        {"kind": "linear"},
    ],
)
def test_fingerprint_sees_structure(build, change):
    layers = [build.layer("a", 4, 4), build.layer("b", 4, 4)]
    changed = [layers[0], replace(layers[1], **change)]
    assert fingerprint(build.chain(layers)) != fingerprint(build.chain(changed))


def test_find_ranking_goes_by_fingerprint(tmp_path, mcunet, mobilenet):
    structural(mobilenet).save(tmp_path / "a.json")
    structural(mcunet).save(tmp_path / "b.json")
    assert find_ranking(mcunet, tmp_path) == structural(mcunet)
    assert find_ranking(mcunet, tmp_path / "no_such_folder") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_spearman_equals_its_definition(pairs):
    """Correlation of ranks, where the rank of a score is one more than the scores below it, plus half of its equals."""
    a, b = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return
    ranks = [[1 + np.sum(x < one) + (np.sum(x == one) - 1) / 2 for one in x] for x in (a, b)]
    assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])
