import pytest
import torch
from torch import nn

from kilotune.models.proxylessnas import proxylessnas, renumber_blocks


@pytest.mark.parametrize(("mix", "n_convs", "weights"), [(True, 61, 357_680), (False, 60, 320_816)])
def test_convolution_weights_are_the_published_sums(mix, n_convs, weights):
    sizes = [m.weight.numel() for m in proxylessnas(mix).modules() if isinstance(m, nn.Conv2d)]
    assert (len(sizes), sum(sizes)) == (n_convs, weights)


def test_feature_mix_and_epsilon_are_the_originals():
    model = proxylessnas(classes=7)
    assert model.feature_mix_layer.conv.weight.shape == (384, 96, 1, 1)
    assert model.classifier.linear.weight.shape == (7, 384)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_skipped_block_numbers_are_closed():
    tensors = {f"blocks.{n}.weight": torch.tensor(float(n)) for n in (0, 2, 10, 5)} | {"classifier.bias": torch.ones(1)}
    renumbered = renumber_blocks(tensors)
    assert {name: tensor.item() for name, tensor in renumbered.items()} == {
        "blocks.0.weight": 0,
        "blocks.1.weight": 2,
        "blocks.2.weight": 5,
        "blocks.3.weight": 10,
        "classifier.bias": 1,
    }
