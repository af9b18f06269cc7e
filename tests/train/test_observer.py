"""A run under velocities against one that computes them by hand, with hooks on the user's module."""

import numpy as np
import pytest
import torch

from kilotune.errors import DataError, RunError
from kilotune.integrations.redrawing import Redrawing
from kilotune.policies.spend import Prices, spend
from kilotune.train.loop import FineTuner
from tests.train.test_rank import EXAMPLE, make_batches, make_model
from tests.train.test_similarity import BEHIND, LAYERS

N_IMAGES, MU = 8, 0.5
FIELDS = {"ledger": "parameters", "budget": 4 * 60, "lr": 0.3, "warmup_epochs": 0, "schedule": "constant"}


def outputs(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Normalised outputs of every neuron, behind its activation, (neurons, images and positions, zero-padded)."""
    rows = []
    for name in LAYERS:
        with torch.no_grad():
            values = model[: int(BEHIND[name]) + 1](images).double().transpose(0, 1).flatten(1)
        rows += [np.resize(0.0, 0)] if values is None else list(values.numpy())
    return np.array([np.pad(row / (np.linalg.norm(row) or 1), (0, 512 - len(row))) for row in rows])


def test_neurons_are_those_of_a_naive_velocity():
    batches = make_batches(3)
    images = torch.cat([x for x, _ in batches])[:N_IMAGES]
    tuner = FineTuner(make_model(), EXAMPLE, policy="velocity", options={"images": N_IMAGES, "mu": MU}, **FIELDS)
    table = tuner.selection._selector.fitting.task.neurons
    before, phi_before, velocity = outputs(tuner.model, images), 1.0, 0.0
    changed = 0
    for epoch in range(1, 5):
        record = tuner.fit(batches, batches, epochs=epoch)
        if epoch > 1:
            speed = np.abs(velocity) / table.weight[table.layer_of]
            order = np.argsort(-speed, kind="stable").tolist()
            expected = sorted(spend(order, Prices(table), 60).tolist())
            assert table.to_ids(record.epochs[-1].channels).tolist() == expected
            changed += record.epochs[-1].channels != record.epochs[-2].channels
        now = outputs(tuner.model, images)
        phi = 1 - ((now - before) ** 2).sum(1) / 2
        velocity = phi - phi_before - MU * velocity
        before, phi_before = now, phi
    assert changed


@pytest.mark.parametrize("policy", ["velocity", "velocity_input", "neq"])
def test_looking_changes_nothing_but_the_choice(policy):
    """The first epoch, whose draw knows no velocity yet, trains as a policy that never looks."""
    blind = {"velocity": "random_neurons", "velocity_input": "random", "neq": "neq"}[policy]
    fields = {**FIELDS, "budget": None} if policy == "neq" else FIELDS
    tuners = [FineTuner(make_model(), EXAMPLE, policy=name, **fields) for name in (policy, blind)]
    records = [tuner.fit(make_batches(3), make_batches(1), epochs=1) for tuner in tuners]
    assert records[0].epochs[0].channels == records[1].epochs[0].channels
    assert records[0].epochs[0].loss == records[1].epochs[0].loss


def test_what_neq_froze_does_not_move():
    tuner = FineTuner(make_model(), EXAMPLE, policy="neq", options={"eps": 3e-4}, **{**FIELDS, "budget": None})
    batches = make_batches(3)
    tuner.fit(batches, batches, epochs=1)
    before = {name: tuner.model.get_submodule(name).weight.clone() for name in LAYERS}
    record = tuner.fit(batches, batches, epochs=2)
    trained = {chosen.layer: set(chosen.indices) for chosen in record.epochs[1].channels}
    n_units = sum(len(units) for units in trained.values())
    assert 0 < n_units < sum(len(weight) for weight in before.values())
    for name, weight in before.items():
        moved = (tuner.model.get_submodule(name).weight != weight).flatten(1).any(1)
        assert set(moved.nonzero().flatten().tolist()) <= trained.get(name, set())


def test_too_few_images():
    tuner = FineTuner(make_model(), EXAMPLE, policy="velocity", options={"images": 19}, **FIELDS)
    with pytest.raises(DataError, match="looks at 19 images after each epoch, the training data has 18; say images=18"):
        tuner.fit(make_batches(3), make_batches(1), epochs=1)


@pytest.mark.parametrize("policy", ["velocity", "velocity_input"])
def test_other_loops_say_that_they_cannot(policy):
    with pytest.raises(RunError, match=rf"policy {policy} looks at training data before it draws"):
        Redrawing(make_model(), EXAMPLE, policy=policy, **{key: FIELDS[key] for key in ("ledger", "budget")})
