import pytest
import torch
from torch import nn

from kilotune.models.inverted import Architecture, Block, InvertedResidual

SMALL = Architecture(16, (Block(3, 1, 16, 8), Block(5, 2, 48, 16), Block(3, 1, 96, 16)))


def test_steps_pair_each_block_with_its_input_channels():
    assert [c for c, _ in SMALL.steps] == [16, 8, 16]
    assert [block.expands(c) for c, block in SMALL.steps] == [False, True, True]
    assert [block.is_residual(c) for c, block in SMALL.steps] == [False, False, True]


@pytest.mark.parametrize(("mix", "features"), [(None, 16), (448, 448)])
def test_features_are_what_the_classifier_reads(mix, features):
    assert Architecture(16, SMALL.blocks, mix).features == features


def test_differences_name_what_differs():
    other = Architecture(16, (*SMALL.blocks[:2], Block(7, 1, 96, 16)), 448, "tf_same")
    assert SMALL.differences(other) == [
        "padding is symmetric, not tf_same",
        "the last 1x1 convolution is absent, not 448",
        "block 2 and 0 more differ",
    ]
    assert SMALL.differences(SMALL) == []


def test_epsilon_does_not_tell_architectures_apart():
    assert Architecture(16, SMALL.blocks, epsilon=1e-3) == SMALL


@pytest.mark.parametrize("is_residual", [True, False])
def test_shortcut_adds_the_input(is_residual):
    body = nn.Conv2d(2, 2, 1)
    block = InvertedResidual("conv", body, is_residual)
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x + body(x) if is_residual else body(x))
    assert set(block.state_dict()) == {"conv.weight", "conv.bias"}
