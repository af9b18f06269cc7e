"""The three layer sets, for every policy that has the choice."""

import numpy as np
import pytest

from kilotune.errors import PlanError
from kilotune.policies import POLICIES, make
from kilotune.policies.base import Task
from kilotune.policies.pool import PooledPolicy
from kilotune.policies.published import BUDGETS

POOLED = [name for name, policy in POLICIES.items() if issubclass(policy, PooledPolicy)]


@pytest.fixture(scope="module")
def task(mobilenet):
    """MobileNetV2-w0.35 with feature mix."""
    return Task.of(mobilenet)


def test_who_has_the_choice():
    assert {"trady", "topk_random_static", "medyate", "det_raw", "det_rgn", "prob_raw"} <= set(POOLED)


@pytest.mark.parametrize("name", POOLED)
def test_every_set_on_every_policy(name, task):
    """ "Prev MeDyate" and "LaRa TraDy" of MeDyate's tables are the same sets, whoever draws from them."""
    budget = BUDGETS["mobilenet_v2_w0.35"][0]
    pools = {kind: make(name, layer_set=kind).pool(task, budget) for kind in ("all", "rgn", "lara")}
    table = task.units(POLICIES[name].axis)
    assert pools["all"].tolist() == np.flatnonzero(table.once + table.cost <= budget).tolist()
    if table.axis == "out":
        return  # What fits, and what a layer costs, is another question for neurons.
    assert pools["rgn"].tolist() == make("trady").pool(task, budget).tolist()
    assert pools["lara"].tolist() == make("medyate").pool(task, budget).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layer_set": "all", "k": 3},
            "k=3 chooses the best layers, but layer_set is 'all'; say layer_set=rgn or lara",
        ),
        (
            {"layer_set": "lara", "share": 0.9},
            "share=0.9 is a share of RGN, but layer_set is 'lara'; say layer_set=rgn",
        ),
        ({"layer_set": "best"}, "cannot take these options"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(PlanError, match=message):
        make("trady", **options)
