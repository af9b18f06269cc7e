"""What was published about three networks, against the networks themselves."""

import pytest

from kilotune.policies import make
from kilotune.policies.base import Task
from kilotune.policies.published import BUDGETS, NETWORKS, find_network
from kilotune.policies.schemes import SCHEMES


@pytest.mark.parametrize(
    ("network", "name", "total"),
    [
        ("mobilenet", "mobilenet_v2_w0.35", 1_252_320),
        ("mcunet", "mcunet_in1", 1_309_808),
        ("proxyless", "proxylessnas_w0.3", 1_162_032),
    ],
)
def test_networks_are_recognised(request, network, name, total):
    graph = request.getfixturevalue(network)
    assert find_network(graph).schemes == name
    assert graph.selection_total_elements == total


@pytest.mark.parametrize("network", ["mobilenet", "mcunet", "proxyless"])
def test_budgets_are_schemes_one_three_and_five(request, network):
    task = Task.of(request.getfixturevalue(network))
    name = find_network(task.graph).schemes
    quirk = {"mobilenet_v2_w0.35": (42 * 8, 0, 0)}.get(name, (0, 0, 0))
    elements = [make("sparse_update").bound(task, size).elements for size in (0, 2, 4)]
    assert tuple(found - missing for found, missing in zip(elements, quirk, strict=True)) == BUDGETS[name]


def test_tables_have_the_same_networks():
    assert set(BUDGETS) == set(SCHEMES) == {network.schemes for network in NETWORKS.values()}


def test_other_networks_are_not_recognised(build):
    assert find_network(build.chain([build.layer("a", 3, 4)])) is None
