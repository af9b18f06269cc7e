import numpy as np
import pytest

from kilotune.errors import PlanError
from kilotune.policies.contributions import CLASSIFIER, RATIOS, Contributions, bias_part, weight_part

TABLE = Contributions(
    "net", "0123", ("a", "b", "c"), "loss", 3, "{}",
    {CLASSIFIER: -2.0, bias_part(1): -1.8, bias_part(3): -1.0, weight_part(1, 0.5): -0.5, weight_part(2, 1.0): -1.25},
)  # fmt: skip


def test_gains_are_differences_and_what_lies_between_is_linear():
    np.testing.assert_allclose(TABLE.bias_gains(), [0, 0.2, 0.6, 1.0])
    gains = TABLE.weight_gains()
    assert gains.shape == (3, 1 + len(RATIOS))
    assert gains[:, 0].tolist() == [0, 0, 0]
    assert gains[1].tolist() == [0, 0.125, 0.25, 0.5, -np.inf]
    assert gains[2].tolist() == [0, -0.03125, -0.0625, -0.125, -0.25]
    assert np.isneginf(gains[0, 1:]).all()


def test_file_round_trip(tmp_path):
    TABLE.save(tmp_path / "table.json")
    assert Contributions.load(tmp_path / "table.json") == TABLE
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"loss"', '"luck"', "cannot read contributions from .*luck"),
        ('"version": 1', '"version": 9', "have version 9, this kilotune reads version 1; measure them again"),
        ("{", "", "cannot read contributions from"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, old, new, message):
    path = tmp_path / "table.json"
    TABLE.save(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(PlanError, match=message):
        Contributions.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PlanError, match=r"cannot read contributions from .*; let `kilotune search` measure them"):
        Contributions.load(tmp_path / "none.json")
