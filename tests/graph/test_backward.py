"""StepGraph: where the backward pass ends, and what is kept for it, rule by rule."""

import pytest
import torch
from torch import nn

from kilotune.graph.backward import StepGraph
from kilotune.graph.capture import capture
from kilotune.update_plan import ChannelSet, UpdatePlan

MODEL = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1),  # 0
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.Conv2d(8, 8, 3, padding=1, groups=8),  # 3
    nn.ReLU6(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 4, 1),  # 6
    nn.SiLU(),
    nn.Flatten(),
    nn.Linear(64, 5),  # 9
)


@pytest.fixture(scope="module")
def graph():
    return capture(MODEL.eval(), torch.zeros(1, 3, 8, 8))


def kept(graph, *sets, biases=(), classifier=False):
    plan = UpdatePlan(tuple(sets), biases, classifier)
    return [(thing.layer, thing.form, thing.elements) for thing in StepGraph.of(graph, plan).kept if thing.counted]


def test_frozen_network_has_no_backward_pass(graph):
    step = StepGraph.of(graph, UpdatePlan(classifier=False))
    assert step.steps == ()
    assert step.saved_bytes() == step.loss_bytes() == 0


def test_classifier_keeps_its_input_whole(graph):
    assert kept(graph, classifier=True) == [("9", "value", 64)]


def test_bias_keeps_nothing_for_itself(graph):
    assert kept(graph, biases=("9",)) == []
    assert kept(graph, biases=("6",)) == [("7", "value", 64)], "SiLU needs its input to let the gradient through"


def test_channels_keep_their_channels_only(graph):
    passing = [("7", "value", 64)]
    assert kept(graph, ChannelSet("6", "in", (1, 5))) == [("6", "channels", 2 * 16), *passing]
    assert kept(graph, ChannelSet("6", "in", tuple(range(8)))) == [("6", "value", 8 * 16), *passing]


def test_neurons_keep_the_whole_input_except_depthwise_ones(graph):
    passing = [("4", "mask", 512), ("5", "argmax", 128), ("7", "value", 64)]
    assert kept(graph, ChannelSet("6", "out", (1,))) == [("6", "value", 128), ("7", "value", 64)]
    assert kept(graph, ChannelSet("3", "out", (1, 2))) == [("3", "channels", 2 * 64), *passing]


def test_gradient_passes_frozen_layers_without_keeping_their_input(graph):
    passing = [("2", "mask", 512), ("4", "mask", 512), ("5", "argmax", 128), ("7", "value", 64)]
    assert kept(graph, biases=("0",)) == passing
    assert kept(graph, ChannelSet("0", "in", (1,))) == passing, "the image is there anyway"
    assert kept(graph, biases=("0", "3")) == passing


def test_backward_stops_at_the_deepest_trained_layer(graph):
    step = StepGraph.of(graph, UpdatePlan((ChannelSet("6", "in", (0,)),), classifier=False))
    layers = [one.node.layer for one in step.steps]
    assert layers == ["9", "8", "7", "6"]
    assert [one.wanted for one in step.steps] == [(True,)] * 3 + [(False,)]


def test_gradient_reaches_the_layers_asked_for(graph):
    step = StepGraph.of(graph, UpdatePlan(classifier=False), through=("3",))
    assert step.steps[-1].node.layer == "3"
    assert step.steps[-1].channels is None


def test_bytes(graph):
    step = StepGraph.of(graph, UpdatePlan((ChannelSet("0", "in", (1,)),), classifier=False))
    loss = 5 * 4 + 8 + 4
    assert step.saved_bytes(1) == 64 + 64 + 128 + 256 + loss
    assert step.saved_bytes(3) == 3 * (64 + 64 + 128 + 256) + 3 * 28 + 4


def test_masks_are_packed_over_the_whole_batch():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 5))
    step = StepGraph.of(capture(model, torch.zeros(1, 2)), UpdatePlan((), ("0",), False))
    assert [step.saved_bytes(n) - step.loss_bytes(n) for n in (1, 2, 3, 6)] == [1, 1, 2, 3]


def test_a_value_is_kept_once_whoever_needs_it():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(256, 5)

        def forward(self, x):
            y = self.conv(x)
            return self.head((y * nn.functional.silu(y)).flatten(1))

    graph = capture(Gate(), torch.zeros(1, 3, 8, 8))
    step = StepGraph.of(graph, UpdatePlan((ChannelSet("conv", "in", (0,)),)))
    values = [thing.root for thing in step.kept if thing.form == "value" and thing.counted]
    assert len(values) == len(set(values)) == 3, "y, silu(y) and their product; the product also in its flat shape"
