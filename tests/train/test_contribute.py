"""Contributions against plain PyTorch: gradients of the folded network, and one short fine-tuning after the other."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kilotune.data.images import Split
from kilotune.errors import PlanError, TrainingError
from kilotune.policies.contributions import CLASSIFIER, RATIOS, bias_part, weight_part
from kilotune.train.contribute import TRAINED_RATIOS, contribute
from kilotune.train.update import fingerprint

EXAMPLE = torch.zeros(1, 3, 8, 8)
# Folded and unfolded batch norm round differently in float32.
TOLERANCE = 1e-3
FIELDS = {"lr": 0.05, "batch_size": 6, "augment": "none", "schedule": "constant"}


def make_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(16, 3, 8, 8))
    return model.eval()


def images(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    pixels = torch.randint(0, 120, (n, 3, 8, 8), generator=generator) + 40 * labels.view(-1, 1, 1, 1)
    return Split(pixels.clamp(max=255).to(torch.uint8), labels)


TRAIN, HELD_OUT = images(24, 1), images(12, 2)


def pixels(split):
    return split.images.float() / 127.5 - 1


def dense_tuning(model, names, mask=None, epochs=1):
    """Stock PyTorch, batch norm in evaluation mode, in the order kilotune draws; returns the tuned model."""
    from kilotune.data.augment import Augment
    from kilotune.data.batches import Batches

    model = copy.deepcopy(model)
    trained = [parameter for name, parameter in model.named_parameters() if name in names]
    for epoch in range(epochs):
        for x, y in Batches(TRAIN, 6, Augment((8, 8), "none", (0.5,), (0.5,))).epoch(epoch):
            model.zero_grad()
            cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for parameter in trained:
                    grad = parameter.grad if mask is None or parameter.dim() != 4 else parameter.grad * mask
                    parameter -= 0.05 * grad
    return model


@torch.no_grad()
def loss_of(model):
    return cross_entropy(model(pixels(HELD_OUT)), HELD_OUT.labels).item()


HEAD = ("10.weight", "10.bias")
BIASES = ("1.bias", "4.bias", "6.bias")


@pytest.mark.parametrize(("score", "sign"), [("loss", -1), ("accuracy", None)])
def test_short_fine_tunings_equal_stock_ones(score, sign):
    model = make_model()
    table = contribute(model, EXAMPLE, TRAIN, HELD_OUT, score, ratios=RATIOS, **FIELDS)
    biases_alone = dense_tuning(model, HEAD + BIASES)
    norms = model.get_submodule("6").weight.flatten(2).norm(dim=(0, 2))
    mask = torch.zeros(8)
    mask[norms.argsort(descending=True)[:4]] = 1
    half = dense_tuning(model, (*HEAD, *BIASES, "6.weight"), mask.view(1, -1, 1, 1))
    tuned = {
        CLASSIFIER: dense_tuning(model, HEAD),
        bias_part(1): dense_tuning(model, (*HEAD, "6.bias")),
        bias_part(3): biases_alone,
        weight_part(2, 1.0): dense_tuning(model, (*HEAD, *BIASES, "6.weight")),
        weight_part(2, 0.5): half,
    }
    for name, other in tuned.items():
        if sign:
            assert table.values[name] == pytest.approx(sign * loss_of(other), rel=TOLERANCE)
        else:
            right = other(pixels(HELD_OUT)).argmax(1).eq(HELD_OUT.labels).float().mean().item()
            assert table.values[name] == pytest.approx(right)
    assert len(table.values) == 1 + 3 + 3 * len(RATIOS) - 2  # 3 channels have no eighth and no quarter.


def test_gradients_are_squared_norms_after_the_classifier_was_trained():
    model = make_model()
    table = contribute(model, EXAMPLE, TRAIN, HELD_OUT, "gradient", **FIELDS)
    tuned = dense_tuning(model, HEAD)
    tuned.zero_grad()
    cross_entropy(tuned(pixels(TRAIN)), TRAIN.labels).backward()
    gradients = {name: parameter.grad for name, parameter in tuned.named_parameters()}
    assert table.values[CLASSIFIER] == 0
    assert table.values[bias_part(2)] == pytest.approx(
        sum(gradients[name].square().sum().item() for name in ("4.bias", "6.bias")), rel=TOLERANCE
    )
    gains = table.weight_gains()
    for row, name in enumerate(("0", "3", "6")):
        assert gains[row, -1] == pytest.approx(gradients[f"{name}.weight"].square().sum().item(), rel=TOLERANCE)
        assert all(small <= large for small, large in zip(gains[row, 2:-1], gains[row, 3:], strict=True))


def test_only_the_last_layers_are_tried():
    table = contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "gradient", n_bias=1, **FIELDS)
    assert set(table.values) == {CLASSIFIER, bias_part(1), *(weight_part(2, ratio) for ratio in RATIOS)}
    assert table.n_bias == 1


def test_what_takes_a_training_is_tried_at_two_ratios():
    table = contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, n_bias=1, **FIELDS)
    assert table.score == "loss"
    assert {name for name in table.values if name.startswith("weight")} == {
        weight_part(2, ratio) for ratio in TRAINED_RATIOS
    }


def test_only_the_ratios_asked_for_are_tried():
    table = contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "gradient", n_bias=2, ratios=(0.5, 1.0), **FIELDS)
    weights = {name for name in table.values if name.startswith("weight")}
    assert weights == {weight_part(row, ratio) for row in (1, 2) for ratio in (0.5, 1.0)}


def test_goes_on_with_what_is_known():
    seen = []
    whole = contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "loss", keep=seen.append, **FIELDS)
    assert [len(table.values) for table in seen] == list(range(1, len(whole.values) + 1))
    more = []
    again = contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "loss", known=seen[4], keep=more.append, **FIELDS)
    assert again == whole
    assert len(more) == len(whole.values) - 5
    assert contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "loss", known=whole, **FIELDS) == whole


def test_another_measurement_is_refused():
    known = contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "gradient", **FIELDS)
    with pytest.raises(PlanError, match="measured with score gradient, asked for is loss"):
        contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "loss", known=known, **FIELDS)
    with pytest.raises(PlanError, match="measured with fingerprint 0"):
        contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "gradient", known=replace(known, fingerprint="0"), **FIELDS)


def test_leaves_the_model_alone():
    model = make_model()
    before = fingerprint(model.state_dict())
    contribute(model, EXAMPLE, TRAIN, HELD_OUT, "gradient", **FIELDS)
    assert fingerprint(model.state_dict()) == before


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(TrainingError, match=r"score of part .* is nan; lower the learning rate"):
        contribute(make_model(), EXAMPLE, TRAIN, HELD_OUT, "loss", **{**FIELDS, "lr": 1e30})
