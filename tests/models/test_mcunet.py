import pytest
from torch import nn

from kilotune.models.mcunet import mcunet


@pytest.mark.parametrize(
    ("variant", "n_convs", "weights"),
    [("in1", 42, 463_216), ("in2", 54, 552_904), ("in3", 54, 561_032), ("in4", 51, 1_390_232)],
)
def test_convolution_weights_are_the_published_sums(variant, n_convs, weights):
    sizes = [m.weight.numel() for m in mcunet(variant).modules() if isinstance(m, nn.Conv2d)]
    assert (len(sizes), sum(sizes)) == (n_convs, weights)


def test_names_are_those_of_mit_han_lab():
    names = set(mcunet("in1").state_dict())
    assert {
        "first_conv.conv.weight",
        "first_conv.bn.running_mean",
        "blocks.0.mobile_inverted_conv.depth_conv.conv.weight",
        "blocks.1.mobile_inverted_conv.inverted_bottleneck.conv.weight",
        "blocks.1.mobile_inverted_conv.inverted_bottleneck.bn.bias",
        "blocks.13.mobile_inverted_conv.point_linear.bn.running_var",
        "classifier.linear.weight",
        "classifier.linear.bias",
    } <= names
    assert not [name for name in names if name.startswith("feature_mix_layer")]
    assert "blocks.0.mobile_inverted_conv.inverted_bottleneck.conv.weight" not in names
