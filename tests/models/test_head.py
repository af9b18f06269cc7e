import pytest
import torch
from torch import nn

from kilotune.errors import ModelError
from kilotune.models.head import find_head, replace_head


def test_the_last_linear_layer_is_the_head():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1)))
    name, module = find_head(model)
    assert name == "2.0"
    assert module is model[2][0]
    assert find_head(nn.Conv2d(1, 1, 1)) is None


def test_a_new_head_comes_from_its_own_generator():
    first, second = nn.Sequential(nn.Linear(64, 8)), nn.Sequential(nn.Linear(64, 8, bias=False))
    state = torch.get_rng_state()
    for model in (first, second):
        replace_head(model, 100, torch.Generator().manual_seed(3))
    assert first[0].weight.shape == (100, 64)
    assert torch.equal(first[0].weight, second[0].weight)
    assert not first[0].bias.any()
    assert second[0].bias is None
    # Standard deviation 0.01 of 6,400 draws: the relative standard error is 0.9 %, 5 % is more than five of them.
    assert abs(first[0].weight.std().item() / 0.01 - 1) < 0.05
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_without_linear_layer_is_refused():
    with pytest.raises(ModelError, match=r"no linear layer.*10 classes"):
        replace_head(nn.Sequential(nn.Conv2d(1, 1, 1)), 10)
