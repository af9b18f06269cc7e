import pytest
import torch
from torch import nn

from kilotune.models.resnet import resnet


@pytest.mark.parametrize(("depth", "weights"), [(18, 11_166_912), (50, 23_454_912)])
def test_torchvision_checkpoints_load_and_give_the_same_logits(torchvision_models, depth, weights):
    torch.manual_seed(0)
    theirs = getattr(torchvision_models, f"resnet{depth}")(num_classes=10).eval()
    ours = resnet(depth, classes=10).eval()
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    assert sum(m.weight.numel() for m in ours.modules() if isinstance(m, nn.Conv2d)) == weights


def test_folded_network_has_no_batch_norm():
    names = resnet(18, folded=True).state_dict()
    assert "layer2.0.downsample.0.bias" in names
    assert not [name for name in names if "bn" in name or "running" in name]
