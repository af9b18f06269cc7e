"""Every supported operation: gradients that pass through it equal dense autograd, and what it keeps is what was predicted."""

import pytest
import torch
import torch.nn.functional as F

from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer, saved_bytes
from kilotune.ops.prepare import prepare
from tests.oracles.dense import FLOAT64_TOLERANCE, dense_gradients, everything, expected_gradients, relative_error
from tests.oracles.modules import INPUT, MODULES, N_CLASSES, build, captured
from tests.oracles.networks import batch

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")


# PyTorch's own derivative of hard-sigmoid in float64 multiplies with one sixth rounded to float32, 3.0e-8 too much.
HARDSIGMOID_TOLERANCE = 4e-8
WITH_HARDSIGMOID = {"nn.Hardsigmoid", "nn.Hardsigmoid(inplace)", "squeeze and excite"}


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("name", MODULES)
def test_gradients_equal_dense_autograd(name, axis):
    model, graph = build(name), captured(name)
    plan = everything(graph, axis)
    x, y = batch(INPUT, 2, N_CLASSES, dtype=torch.float64)
    expected = expected_gradients(graph, plan, dense_gradients(model, x, y))
    step = prepare(model, None, plan, graph, dtype=torch.float64).eval()
    F.cross_entropy(step(x), y).backward()
    assert step.live.keys() == expected.keys()
    tolerance = HARDSIGMOID_TOLERANCE if name in WITH_HARDSIGMOID else FLOAT64_TOLERANCE
    for key, parameter in step.live.items():
        assert relative_error(parameter.grad, expected[key]) < tolerance, key


@pytest.mark.parametrize("name", MODULES)
def test_kept_bytes_are_the_predicted_ones(name):
    model, graph = build(name).float(), captured(name)
    plan = everything(graph)
    step = prepare(model, None, plan, graph)
    for n in (1, 2, 3):
        x, y = batch(INPUT, n, N_CLASSES)
        report = ledger(graph, plan, batch=n)
        assert saved_by_layer(step, x, y) == report.by_layer
        assert saved_bytes(step, x, y) == report.saved_bytes == sum(report.by_layer.values())
