import pytest
import torch

from kilotune.errors import ModelError
from kilotune.models.mobilenet_v2 import architecture, mobilenet_v2, parse_name, published_names


@pytest.mark.parametrize("width", [0.35, 0.5, 1.0, 1.4])
def test_torchvision_checkpoints_load_and_give_the_same_logits(torchvision_models, width):
    torch.manual_seed(0)
    theirs = torchvision_models.mobilenet_v2(width_mult=width, num_classes=10).eval()
    ours = mobilenet_v2(width, classes=10).eval()
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_weight_elements_are_the_papers():
    """MobileNetV2-w0.35 with the 112->448 feature mix of TraDy, and without it as in 256 KB training."""
    assert _conv_weights(mobilenet_v2(0.35, "mix")) == (52, 288_864)
    assert _conv_weights(mobilenet_v2(0.35, "nohead")) == (51, 238_688)


def test_head_follows_the_width():
    assert architecture(0.35, "full").mix == 1280
    assert architecture(1.4, "full").mix == 1792
    assert architecture(0.35, "mix").mix == 448
    assert architecture(0.35, "nohead").features == 112


def test_folded_network_has_no_batch_norm():
    names = mobilenet_v2(0.35, folded=True).state_dict()
    assert not [name for name in names if "running" in name]
    assert {"features.0.0.bias", "features.1.conv.0.0.bias", "features.1.conv.1.bias"} <= set(names)


@pytest.mark.parametrize("size", [32, 33])
def test_same_and_symmetric_padding_share_shapes_but_not_values(size):
    symmetric, same = mobilenet_v2(0.35, classes=5), mobilenet_v2(0.35, padding="tf_same", classes=5)
    same.load_state_dict(symmetric.state_dict())
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    a, b = symmetric.features[0][0](x), same.features[0][0](x)
    assert a.shape == b.shape
    # On an odd size SAME pads both sides alike.
    assert torch.equal(a, b) == (size % 2 == 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v2", (1.0, "full", "symmetric", 0.2)),
        ("mobilenet_v2_w0.35", (0.35, "full", "symmetric", 0.2)),
        ("mobilenet_v2_w1.4_same", (1.4, "full", "tf_same", 0.0)),
        ("mobilenet_v2_w0.5_nohead_same", (0.5, "nohead", "tf_same", 0.0)),
    ],
)
def test_names_are_read(name, expected):
    assert tuple(parse_name(name).values()) == expected


@pytest.mark.parametrize("name", ["mobilenet_v3", "mobilenet_v2_", "mobilenet_v2_w", "mobilenet_v2_same_mix"])
def test_other_names_are_not_ours(name):
    assert parse_name(name) is None


def test_width_zero_is_refused():
    with pytest.raises(ModelError, match="width 0"):
        parse_name("mobilenet_v2_w0.0")


def test_published_names_are_all_read():
    names = list(published_names())
    assert len(set(names)) == len(names)
    assert all(parse_name(name) for name in names)


def _conv_weights(model: torch.nn.Module) -> tuple[int, int]:
    sizes = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    return len(sizes), sum(sizes)
