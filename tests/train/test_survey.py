"""An oracle's pass against dense autograd, and how it is counted in a run."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from kilotune.errors import RunError, TrainingError
from kilotune.graph.capture import capture
from kilotune.integrations.redrawing import Redrawing
from kilotune.memory.survey import whole_layers
from kilotune.ops.prepare import prepare
from kilotune.policies import make
from kilotune.policies.base import State, Task
from kilotune.rng import Pcg32
from kilotune.train.loop import FineTuner
from kilotune.train.recipe import Recipe
from kilotune.train.survey import fisher, survey_norms
from kilotune.train.update import fingerprint
from tests.train.test_rank import EXAMPLE, TOLERANCE, make_batches, make_model

CPU = torch.device("cpu")
RECIPE = Recipe.of(policy="det_raw")
FIELDS = {"budget": 1200, "ledger": "selection", "epochs": 3, "seed": 1}


def survey(model, steps, layers):
    step = prepare(model, EXAMPLE, whole_layers(capture(model, EXAMPLE), layers))
    return survey_norms(step, step.plan, RECIPE, CPU, steps)


def test_norms_are_those_of_the_dense_gradient():
    model, batches = make_model(), make_batches(3)
    norms, n_steps = survey(model, [[batch] for batch in batches], ("0", "3", "6"))
    assert n_steps == 3
    dense = make_model()
    for x, y in batches:
        (cross_entropy(dense(x), y) / 3).backward()
    for name in ("0", "3", "6"):
        weight = dense.get_submodule(name).weight.grad
        rows = weight.transpose(0, 1) if dense.get_submodule(name).groups == 1 else weight
        np.testing.assert_allclose(norms[name], rows.flatten(1).norm(dim=1).numpy(), rtol=TOLERANCE)


def test_micro_batches_are_one_step():
    model, batches = make_model(), make_batches(4)
    alone, _ = survey(
        model, [[(torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]]))] for a, b in (batches[:2], batches[2:])], ("6",)
    )
    together, n_steps = survey(model, [batches[:2], batches[2:]], ("6",))
    assert n_steps == 2
    np.testing.assert_allclose(alone["6"], together["6"], rtol=TOLERANCE)


def test_the_model_stays_as_it_is():
    model = make_model()
    before = fingerprint(model.state_dict())
    survey(model, [make_batches(1)], ("0", "6"))
    assert fingerprint(model.state_dict()) == before


def test_a_gradient_that_is_not_finite_is_refused():
    images = torch.full((2, 3, 8, 8), torch.inf)
    with pytest.raises(TrainingError, match="no gradient of the oracle's pass is finite"):
        survey(make_model(), [[(images, torch.tensor([0, 1]))]], ("0",))


@pytest.mark.parametrize(
    ("policy", "fields", "passes", "steps"),
    [
        ("det_raw", {}, 3, 12),
        ("static_det_rgn", {}, 1, 4),
        ("static_det_rgn", {"redraw": "epoch"}, 1, 4),
        ("prob_raw", {"redraw": "never"}, 1, 4),
        ("prob_raw", {"options": {"survey_steps": 2}}, 3, 6),
        ("det_rgn", {"redraw": 2}, 6, 24),
        ("det_rgn", {"accumulate": 2}, 3, 6),
    ],
)
def test_passes_are_counted(policy, fields, passes, steps):
    batches = make_batches(4)
    tuner = FineTuner(make_model(), EXAMPLE, policy=policy, **FIELDS, **fields)
    record = tuner.fit(batches, batches)
    assert (record.survey.passes, record.survey.steps) == (passes, steps)
    assert record.survey.total_bytes > record.survey.saved_bytes > 0
    assert record.summary()["survey"]["steps"] == steps


def test_the_first_epoch_trains_what_the_first_pass_found():
    batches = make_batches(4)
    tuner = FineTuner(make_model(), EXAMPLE, policy="static_det_raw", **FIELDS, options={"layer_set": "all"})
    norms, _ = survey(make_model(), [[batch] for batch in batches], ("0", "3", "6"))
    record = tuner.fit(batches, batches)
    best = np.argsort(-np.concatenate(list(norms.values())), kind="stable")
    table = tuner.selection._selector.fitting.task.table
    chosen = table.to_ids(record.epochs[0].channels)
    assert sorted(best[: len(chosen)]) == chosen.tolist()
    assert all(epoch.channels == record.epochs[0].channels for epoch in record.epochs)


def test_other_policies_have_no_pass():
    record = FineTuner(make_model(), EXAMPLE, policy="medyate", **FIELDS).fit(make_batches(2), make_batches(2))
    assert record.survey is None


def test_other_loops_say_that_they_cannot():
    with pytest.raises(RunError, match=r"policy det_rgn looks at training data .* use kilotune\.FineTuner"):
        Redrawing(make_model(), EXAMPLE, budget=1200, ledger="selection", policy="det_rgn")


def test_fisher_information_is_that_of_the_layers_inputs():
    """TinyTrain, Eq. 2, from the gradient of each layer's input in stock PyTorch, image by image."""
    model, batches = make_model(), make_batches(2)
    plan = whole_layers(capture(model, EXAMPLE), ("0", "3", "6"))
    step = prepare(model, EXAMPLE, plan)
    found, n_steps = fisher(step, plan, RECIPE, CPU, [[batch] for batch in batches])
    assert n_steps == 2
    dense, inputs = make_model(), {}
    for name in ("0", "3", "6"):
        dense.get_submodule(name).register_forward_pre_hook(lambda module, x, name=name: inputs.update({name: x[0]}))
    images = [(x[i : i + 1], y[i : i + 1]) for x, y in batches for i in range(len(y))]
    sums = dict.fromkeys(found, 0.0)
    for x, y in images:
        loss = cross_entropy(dense(x.requires_grad_()), y)
        for name, gradient in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True):
            sums[name] = sums[name] + (inputs[name] * gradient).sum((0, 2, 3)).detach() ** 2
    for name, total in sums.items():
        np.testing.assert_allclose(found[name], total / (2 * len(images)), rtol=10 * TOLERANCE, atol=1e-9)


def test_fisher_chooses_once_before_training_and_its_pass_is_charged():
    tuner = FineTuner(make_model(), EXAMPLE, policy="fisher", options={"survey_steps": 1}, **FIELDS)
    batches = make_batches(2)
    record = tuner.fit(batches, batches, quiet=True)
    assert (record.survey.passes, record.survey.steps) == (1, 1)
    assert record.epochs[0].channels == record.epochs[-1].channels
    plan = whole_layers(tuner.graph, ("0", "3", "6"))
    tuner = FineTuner(make_model(), EXAMPLE, policy="fisher", options={"survey_steps": 1}, **FIELDS)
    found, _ = fisher(tuner.step, plan, tuner.recipe, CPU, [[batches[0]]])
    state = State()
    task = Task.of(tuner.graph)
    policy = make("fisher")
    policy.observe(task, state, np.arange(task.table.n_channels), np.concatenate([found[n] for n in task.table.names]))
    assert record.epochs[0].channels == policy.draw(task, FIELDS["budget"] // 4, state, Pcg32(0))


def test_a_fisher_pass_without_a_finite_gradient_is_refused():
    images = torch.full((2, 3, 8, 8), torch.inf)
    model = make_model()
    plan = whole_layers(capture(model, EXAMPLE), ("6",))
    with pytest.raises(TrainingError, match="no gradient of the Fisher pass is finite"):
        fisher(prepare(model, EXAMPLE, plan), plan, RECIPE, CPU, [[(images, torch.tensor([0, 1]))]])
