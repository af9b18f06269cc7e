import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kilotune.errors import TrainingError
from kilotune.graph.capture import capture
from kilotune.train.rank import rank
from kilotune.train.update import fingerprint

EXAMPLE = torch.zeros(1, 3, 8, 8)
# Convolutions with the batch norm folded in round differently from convolution then norm, in float32.
TOLERANCE = 1e-3


def make_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(16, 3, 8, 8))
    return model.eval()


def make_batches(n_batches: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(6, 3, 8, 8), torch.randint(4, (6,))) for _ in range(n_batches)]


def dense_scores(model: nn.Module, batches: list, epochs: int, lr: float) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 8 and 9, channel by channel, on stock PyTorch training with frozen norm scales and statistics."""
    model = copy.deepcopy(model)
    theta = {"0": 8 * 9 + 64, "3": 9 + 64, "6": 12 + 9}
    trained = [p for name, p in model.named_parameters() if name not in ("1.weight", "4.weight")]
    rgn, lara = np.zeros(3), np.zeros(3)
    for _ in range(epochs):
        sums = dict.fromkeys(theta, 0.0)
        for x, y in batches:
            model.zero_grad()
            cross_entropy(model(x), y).backward()
            for name in theta:
                sums[name] = sums[name] + model.get_submodule(name).weight.grad
            with torch.no_grad():
                for p in trained:
                    p -= lr * p.grad
        for row, (name, cost) in enumerate(theta.items()):
            mean = sums[name] / len(batches)
            channels = mean if model.get_submodule(name).groups > 1 else mean.transpose(0, 1)
            norms = [channel.norm().item() for channel in channels]
            rgn[row] += sum(norms) / cost
            lara[row] += mean.norm().item() / (len(norms) * cost)
    return rgn, lara


def test_equals_the_formulas_on_dense_training():
    model, batches = make_model(), make_batches(3)
    ranking = rank(model, EXAMPLE, batches, "noise", epochs=2, lr=0.1, schedule="constant", warmup_epochs=0)
    rgn, lara = dense_scores(model, batches, epochs=2, lr=0.1)
    np.testing.assert_allclose(ranking.rgn, rgn, rtol=TOLERANCE)
    np.testing.assert_allclose(ranking.lara, lara, rtol=TOLERANCE)
    assert ranking.layers == ("0", "3", "6")
    assert (ranking.task, ranking.epochs) == ("noise", 2)
    ranking.check(capture(model, EXAMPLE))


def test_leaves_the_model_alone():
    model = make_model()
    before = fingerprint(model.state_dict())
    rank(model, EXAMPLE, make_batches(1), "noise", epochs=1)
    assert fingerprint(model.state_dict()) == before


def test_a_gradient_that_is_not_finite_is_refused():
    batches = [(torch.full((2, 3, 8, 8), torch.inf), torch.tensor([0, 1]))]
    with pytest.raises(TrainingError, match="no gradient of epoch 1 is finite"):
        rank(make_model(), EXAMPLE, batches, "noise", epochs=1)
