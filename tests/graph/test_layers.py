"""Layers read off a network, against the modules and arithmetic by hand."""

import pytest
import torch
from torch import nn

from kilotune.graph.capture import capture


def layers_of(*modules, shape=(4, 9, 7)):
    graph = capture(nn.Sequential(*modules), torch.zeros(1, *shape))
    return graph, graph.layers


def test_convolution():
    _, (layer,) = layers_of(nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2))
    assert (layer.name, layer.kind, layer.in_channels, layer.out_channels, layer.groups) == ("0", "conv2d", 4, 6, 2)
    assert (layer.kernel, layer.stride, layer.input_hw, layer.output_hw) == ((3, 2), (2, 1), (9, 7), (5, 6))
    assert (layer.channel_weight_elements, layer.channel_input_elements) == (3 * 6, 63)
    assert layer.channel_cost_elements == 18 + 63
    assert (layer.neuron_weight_elements, layer.weight_elements) == (2 * 6, 72)
    assert (layer.input_elements, layer.output_elements) == (4 * 63, 6 * 30)
    assert layer.macs == 72 * 30


def test_padding_in_front_belongs_to_the_convolution():
    _, (layer,) = layers_of(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 6, 3, 2))
    assert layer.input_hw == (9, 7)


@pytest.mark.parametrize(("multiplier", "neurons_read_one_channel"), [(1, True), (2, False)])
def test_depthwise(multiplier, neurons_read_one_channel):
    _, (layer,) = layers_of(nn.Conv2d(4, 4 * multiplier, 3, groups=4))
    assert layer.kind == "depthwise_conv2d"
    assert layer.channel_weight_elements == 9 * multiplier
    assert layer.keeps_channels("in")
    assert layer.keeps_channels("out") == neurons_read_one_channel


def test_linear_on_tokens():
    _, (layer,) = layers_of(nn.Flatten(2), nn.Linear(63, 5, bias=False))
    assert (layer.kind, layer.in_channels, layer.input_hw, layer.output_hw) == ("linear", 63, (4, 1), (4, 1))
    assert (layer.channel_weight_elements, layer.channel_input_elements, layer.macs) == (5, 4, 63 * 5 * 4)
    assert not layer.has_bias


@pytest.mark.parametrize(
    ("bias", "affine", "expected"),
    [(True, True, True), (False, True, True), (True, False, True), (False, False, False)],
)
def test_bias_is_that_of_the_layer_or_of_its_norm(bias, affine, expected):
    _, (layer,) = layers_of(nn.Conv2d(4, 6, 1, bias=bias), nn.BatchNorm2d(6, affine=affine))
    assert layer.has_bias == expected


CLASSIFIERS = {
    "linear": ([nn.Flatten(), nn.Linear(252, 5)], "1"),
    "softmax behind": ([nn.Flatten(), nn.Linear(252, 5), nn.Softmax(1)], None),
    "sigmoid behind": ([nn.Flatten(), nn.Linear(252, 5), nn.Sigmoid()], "1"),
    "dropout behind": ([nn.Flatten(), nn.Linear(252, 5), nn.Dropout()], "1"),
    "convolution and pooling": ([nn.Conv2d(4, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()], "0"),
    "none": ([nn.Flatten()], None),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name):
    modules, expected = CLASSIFIERS[name]
    graph, layers = layers_of(*modules)
    assert graph.classifier == expected
    assert [layer.name for layer in graph.body] == [layer.name for layer in layers if layer.name != expected]
