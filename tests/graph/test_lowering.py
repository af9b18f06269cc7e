"""Every supported operation, as a module, as a function and in place: the captured program computes what the module does."""

import pytest
import torch

from kilotune.graph.lowering import LOWERINGS, REWRITES
from kilotune.ops.prepare import prepare
from kilotune.update_plan import UpdatePlan
from tests.oracles.dense import FLOAT64_TOLERANCE, relative_error
from tests.oracles.modules import INPUT, MODULES, build, captured
from tests.oracles.networks import batch


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
@pytest.mark.parametrize("name", MODULES)
def test_captured_program_computes_what_the_module_does(name):
    model = build(name)
    step = prepare(model, None, UpdatePlan(classifier=False), captured(name), dtype=torch.float64).eval()
    for n in (1, 3):
        x, _ = batch(INPUT, n, 5, dtype=torch.float64)
        original = x.clone()
        with torch.no_grad():
            expected = model(x.clone())
        assert relative_error(step(x), expected) < FLOAT64_TOLERANCE
        assert torch.equal(x, original), "the input image was overwritten"


def test_rewrites_are_for_what_is_not_supported():
    assert not LOWERINGS.keys() & REWRITES.keys()
