from dataclasses import dataclass

import pytest

from kilotune.errors import PlanError
from kilotune.policies.files import load_json, save_json


@dataclass(frozen=True)
class Pair:
    a: int
    b: dict[int, float]


def test_round_trip_replaces_what_was_there(tmp_path):
    path = tmp_path / "new" / "pair.json"
    for pair in (Pair(1, {2: 0.5}), Pair(3, {})):
        save_json(path, pair)
        assert load_json(path, Pair, "a pair", PlanError, "make one") == pair
    assert [file.name for file in path.parent.iterdir()] == ["pair.json"]


def test_anything_else_is_the_error_asked_for(tmp_path):
    path = tmp_path / "pair.json"
    for content in ("", "[1]", '{"a": "x", "b": {}}'):
        path.write_text(content)
        with pytest.raises(PlanError, match=r"cannot read a pair from .*pair.json: .*; make one"):
            load_json(path, Pair, "a pair", PlanError, "make one")
