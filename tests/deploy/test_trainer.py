"""Training with gradients from C, against training with PyTorch's."""

import pytest
import torch

from kilotune.codegen.host import link
from kilotune.deploy import trainer
from kilotune.deploy.trainer import CFineTuner
from kilotune.errors import RunError
from kilotune.train.loop import FineTuner
from tests.deploy.conftest import SqueezeNet
from tests.oracles.networks import cut_to_patterns

# Gradients differ in rounding only, over eight steps.
TOLERANCE = 1e-4


def batches():
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 5, 3, 16, 16, generator=draws), torch.randint(4, (4, 5), generator=draws)
    return list(zip(x, y, strict=True))


def tuned(kind, patterned=False, **fields):
    torch.manual_seed(0)
    model = SqueezeNet().eval()
    model = cut_to_patterns(model) if patterned else model
    model.head[3].p = 0.0
    tuner = kind(
        model, torch.zeros(1, 3, 16, 16), budget="64KiB", seed=1, lr=0.05, augment="none", device="cpu", **fields
    )
    record = tuner.fit(batches(), batches(), epochs=2, quiet=True)
    return record, torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": "medyate"},
        {"policy": "classifier", "momentum": 0.9},
        {"policy": "random", "redraw": "step"},
        {"policy": "dgsu"},
        {"policy": "dgsu", "patterned": True},
        {
            "policy": "random",
            "redraw": "step",
            "keep": {"depth.0": "filter:2", "down.0": "filter:2", "body.0": "filter:4"},
        },
    ],
    ids=str,
)
def test_the_same_training(runtime_objects, monkeypatch, fields):
    monkeypatch.setattr(trainer, "_runtime_objects", lambda: tuple(runtime_objects))
    (expected, weights), (found, ours) = tuned(FineTuner, **fields), tuned(CFineTuner, **fields)
    assert [epoch.channels for epoch in found.epochs] == [epoch.channels for epoch in expected.epochs]
    assert [epoch.loss for epoch in found.epochs] == pytest.approx(
        [epoch.loss for epoch in expected.epochs], rel=TOLERANCE
    )
    assert float((weights - ours).abs().max()) < TOLERANCE


def test_each_image_is_kept_on_its_own(runtime_objects, monkeypatch):
    """As on a device; PyTorch shares a scale among the images of a batch. Rounding costs little."""
    monkeypatch.setattr(trainer, "_runtime_objects", lambda: tuple(runtime_objects))
    exact, found = (tuned(CFineTuner, policy="random", keep=keep)[0] for keep in (None, "int8"))
    assert [epoch.loss for epoch in found.epochs] == pytest.approx([epoch.loss for epoch in exact.epochs], rel=0.1)


def test_a_draw_compiles_nothing(runtime_objects, monkeypatch):
    """One project for all draws."""
    monkeypatch.setattr(trainer, "_runtime_objects", lambda: tuple(runtime_objects))
    linked = []
    monkeypatch.setattr(trainer, "link", lambda *rest: linked.append(rest) or link(*rest))
    record, _ = tuned(CFineTuner, policy="random", redraw="step")
    assert sum(epoch.plans for epoch in record.epochs) == 8
    assert len(linked) == 1


def test_what_c_does_not_do_is_refused():
    model = SqueezeNet()
    with pytest.raises(RunError, match="has no dropout"):
        CFineTuner(model, torch.zeros(1, 3, 16, 16), budget="64KiB", device="cpu")
