"""Plans are plain, validated data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import BudgetError, PlanError
from kilotune.update_plan import Budget, ChannelSet, UpdatePlan

names = st.text("abcdefg.0123456789", min_size=1, max_size=8)
indices = st.sets(st.integers(0, 2000), min_size=1, max_size=20).map(sorted).map(tuple)
plans = st.builds(
    UpdatePlan,
    channels=st.lists(
        st.builds(ChannelSet, names, st.sampled_from(["in", "out"]), indices),
        max_size=5,
        unique_by=lambda one: one.layer,
    ).map(tuple),
    biases=st.lists(names, max_size=5, unique=True).map(tuple),
    classifier=st.booleans(),
    pool=st.lists(names, max_size=5).map(tuple),
    state_bytes=st.integers(0, 10**6),
)


@given(plans)
def test_json_round_trip(plan):
    assert UpdatePlan.from_json(plan.to_json()) == plan


def test_json_keys():
    plan = UpdatePlan((ChannelSet("conv", "in", (0, 3)),), ("conv",))
    assert json.loads(plan.to_json()) == {
        "channels": [["conv", "in", [0, 3]]], "biases": ["conv"], "classifier": True, "pool": [],
        "state_bytes": 0, "keeps": [], "version": 1, "network": "",
    }  # fmt: skip


def test_channels_may_be_given_as_plain_tuples():
    plan = UpdatePlan((("conv", "in", (1,)),))
    assert plan.channels[0].layer == "conv"
    assert hash(plan) == hash(UpdatePlan((ChannelSet("conv", "in", (1,)),)))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([("a", "in", (0,)), ("a", "out", (1,))], "layers a appear more than once"),
        ([("a", "sideways", (0,))], "a: axis 'sideways' is unknown"),
        ([("a", "in", ())], "a: channel indices must be strictly increasing"),
        ([("a", "in", (-1, 2))], "a: channel indices must be strictly increasing"),
        ([("a", "in", (2, 2))], "a: channel indices must be strictly increasing"),
        ([("a", "in", (3, 2))], "a: channel indices must be strictly increasing"),
    ],
)
def test_contradictions_are_refused(channels, message):
    with pytest.raises(PlanError, match=message):
        UpdatePlan(tuple(channels))


def test_repeated_bias_is_refused():
    with pytest.raises(PlanError, match="bias appears more than once"):
        UpdatePlan(biases=("a", "a"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"channels": 3}', '{"channels": [["a", "in", ["x"]]]}', b"\xff"])
def test_other_text_is_refused(text):
    with pytest.raises(PlanError, match="this is not an update plan"):
        UpdatePlan.from_json(text)


def test_other_version_is_refused():
    with pytest.raises(PlanError, match="version 99, this kilotune reads version 1"):
        UpdatePlan.from_json('{"version": 99}')


def test_budget():
    assert Budget.parse("256KiB") == Budget(262_144, "total")
    assert str(Budget.parse(27_946 * 4, "selection")) == "111,784 B (109.2 KiB) selection"
    with pytest.raises(PlanError, match="ledger 'flash' is unknown; choose total, selection, parameters"):
        Budget.parse("1KiB", "flash")
    with pytest.raises(BudgetError, match="cannot read 'much'"):
        Budget.parse("much")
