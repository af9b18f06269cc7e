"""Similarities against plain arithmetic on forward hooks."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kilotune.graph.capture import capture
from kilotune.ops.prepare import Step, prepare
from kilotune.train.similarity import Similarity
from kilotune.update_plan import UpdatePlan
from tests.train.test_rank import EXAMPLE, make_model

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
LAYERS = ("0", "3", "6")
# Folded batch norm and another order of sums, in float32; similarities lie between -1 and 1.
TOLERANCE = 1e-5
# Values behind a layer of make_model: the batch norm and the ReLU belong to it.
BEHIND = {"0": "2", "3": "5", "6": "7"}


def step_of(model: nn.Module) -> Step:
    return prepare(model, EXAMPLE, UpdatePlan())


def values(model: nn.Module, side: str) -> dict[str, Tensor]:
    """Input or output of each layer, (n, units, h, w), by hooks on the user's module."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name in LAYERS:
        module = model.get_submodule(BEHIND[name] if side == "output" else name)

        def hook(_, inputs, output, name=name):
            seen[name] = (output if side == "output" else inputs[0]).detach().clone()

        hooks.append(module.register_forward_hook(hook))
    model(IMAGES)
    for one in hooks:
        one.remove()
    return seen


def changed(model: nn.Module) -> nn.Module:
    """A copy with other weights in the second layer."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[3].weight += 0.3 * torch.randn(other[3].weight.shape, generator=torch.Generator().manual_seed(3))
    return other


@pytest.mark.parametrize("side", ["input", "output"])
def test_cosine_over_images_and_positions(side):
    model = make_model()
    other = changed(model)
    similarity = Similarity(capture(model, EXAMPLE), LAYERS, side, IMAGES)
    assert similarity.look(step_of(model)) == {}
    found = similarity.look(step_of(other))
    before, after = values(model, side), values(other, side)
    for name in LAYERS:
        for unit, value in enumerate(found[name]):
            a, b = (look[name][:, unit].flatten() for look in (before, after))
            lengths = float(a.norm() * b.norm())
            expected = float(a @ b) / lengths if lengths else float(torch.equal(a, b))
            assert value == pytest.approx(expected, abs=TOLERANCE)
    assert np.all(found["0"] == 1), "nothing before or in the first layer changed"
    assert np.any(found["6" if side == "input" else "3"] < 0.99)


def test_each_look_is_compared_with_the_one_before():
    model = make_model()
    other = changed(model)
    similarity = Similarity(capture(model, EXAMPLE), LAYERS, "output", IMAGES)
    for one in (model, other):
        similarity.look(step_of(one))
    assert all(np.all(found == 1) for found in similarity.look(step_of(other)).values())
    back = similarity.look(step_of(model))["3"]
    assert np.any(back < 0.99)


def test_silent_units():
    """Two silent looks are equal; a unit that falls silent has nothing in common with what it was."""
    model = make_model()
    with torch.no_grad():
        model[6].weight[0], model[6].bias[0] = 0, -1
    silenced = copy.deepcopy(model)
    with torch.no_grad():
        silenced[6].weight[1], silenced[6].bias[1] = 0, -1
    similarity = Similarity(capture(model, EXAMPLE), ("6",), "output", IMAGES)
    similarity.look(step_of(model))
    found = similarity.look(step_of(silenced))["6"]
    assert found[:2].tolist() == [1, 0]
    assert np.all(found[2:] == 1)


def test_linear_layers_and_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4)).eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].weight[2] *= -1
    similarity = Similarity(capture(model, EXAMPLE), ("1",), "output", IMAGES)
    step = step_of(model).train()
    similarity.look(step)
    assert np.all(similarity.look(step)["1"] == 1), "dropout is off while looking"
    assert step.training
    assert np.flatnonzero(similarity.look(step_of(other))["1"] != 1).tolist() == [2]


def test_a_sketch_estimates_the_distance():
    """Relative error of 1 - similarity: sqrt(2 / m) is one standard deviation of a mean of m squares of normal numbers."""
    model = make_model()
    other, graph, m = changed(model), capture(model, EXAMPLE), 64
    exact, sketch = (Similarity(graph, LAYERS, "output", IMAGES, size) for size in (None, m))
    for one in (exact, sketch):
        one.look(step_of(model))
    expected, found = (one.look(step_of(other)) for one in (exact, sketch))
    assert np.all(found["0"] == 1)
    ratio = (1 - found["3"]) / (1 - expected["3"])
    assert np.all(np.abs(ratio - 1) < 5 * np.sqrt(2 / m))
    assert sketch._rows.keys() == exact._rows.keys()
    assert all(rows.shape[1] == m for rows in sketch._rows.values())
