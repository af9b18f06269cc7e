"""Everything, the classifier, the last layers."""

import pytest

from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.rng import Pcg32


@pytest.fixture(scope="module")
def task(build):
    layers = [build.layer("a", 3, 8, size=8), build.layer("b", 8, 8, 3, groups=8), build.layer("c", 8, 5)]
    return Task.of(build.chain(layers))


def drawn(policy, task, size):
    return {one.layer: one.indices for one in policy.draw(task, size, State(), Pcg32(0))}


def test_full_is_everything(task):
    policy = make("full")
    (size,) = policy.sizes(task)
    bound = policy.bound(task, size)
    assert drawn(policy, task, size) == {"a": (0, 1, 2), "b": tuple(range(8)), "c": tuple(range(8))}
    assert (bound.biases, bound.classifier) == (("a", "b", "c"), True)
    assert bound.elements == task.graph.selection_total_elements


def test_classifier_is_nothing_else(task):
    policy = make("classifier")
    (size,) = policy.sizes(task)
    bound = policy.bound(task, size)
    assert drawn(policy, task, size) == {}
    assert (bound.elements, bound.biases, bound.classifier) == (0, (), True)


def test_bias_counts_from_the_end(task):
    policy = make("bias")
    assert [policy.bound(task, size).biases for size in policy.sizes(task)] == [("c",), ("b", "c"), ("a", "b", "c")]
    assert all(policy.bound(task, size).elements == 0 for size in policy.sizes(task))
    assert drawn(policy, task, 3) == {}


def test_last_counts_from_the_end(task):
    policy = make("last")
    assert list(policy.sizes(task)) == [1, 2, 3]
    assert drawn(policy, task, 2) == {"b": tuple(range(8)), "c": tuple(range(8))}
    assert policy.bound(task, 2).biases == ("b", "c")
    assert policy.bound(task, 1).elements == 8 * (5 + 64)


@pytest.mark.parametrize("name", ["bias", "last"])
@pytest.mark.parametrize(("k", "sizes"), [(2, [2]), (99, [3])])
def test_fixed_number_of_layers(task, name, k, sizes):
    assert list(make(name, k=k).sizes(task)) == sizes
