"""Convolutions and linear layers of random geometry: exact gradients of what is chosen, not one bit of the rest changed."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kilotune.graph.capture import capture
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer
from kilotune.ops.prepare import prepare
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.dense import (
    FLOAT64_TOLERANCE,
    dense_gradients,
    expected_gradients,
    overwrite_trained,
    relative_error,
)
from tests.oracles.networks import batch, geometries, randomise, some_of

N_CLASSES = 5
FEW = settings(max_examples=25, deadline=None)


def draw_plan(draw, graph):
    """Any channels of any layers along either axis, any biases, with or without the classifier."""
    sets = []
    for layer in graph.body:
        if draw(st.booleans()):
            axis = draw(st.sampled_from(["in", "out"]))
            sets.append(
                ChannelSet(layer.name, axis, some_of(draw, {"in": layer.in_channels, "out": layer.out_channels}[axis]))
            )
    biases = tuple(layer.name for layer in graph.body if layer.has_bias and draw(st.booleans()))
    return UpdatePlan(tuple(sets), biases, draw(st.booleans()) or not (sets or biases))


def check_gradients(model, graph, plan, shape, n, channels_last=False):
    x, y = batch(shape, n, N_CLASSES, dtype=torch.float64)
    expected = expected_gradients(graph, plan, dense_gradients(model, x, y))
    step = prepare(model, None, plan, graph, torch.float64, channels_last)
    F.cross_entropy(step(x), y).backward()
    assert step.live.keys() == expected.keys()
    for name, parameter in step.live.items():
        assert relative_error(parameter.grad, expected[name]) < FLOAT64_TOLERANCE, name


def check_rest_is_untouched(model, graph, plan, shape, n):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = prepare(model, None, plan, graph, torch.float64)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    x, y = batch(shape, n, N_CLASSES, dtype=torch.float64)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(step(x), y).backward()
        optimizer.step()
    step.restore()
    after = model.state_dict()
    assert overwrite_trained(graph, plan, before, after) > 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def check_bytes(model, graph, plan, shape):
    step = prepare(model.float(), None, plan, graph)
    for n in (1, 2, 3):
        assert saved_by_layer(step, *batch(shape, n, N_CLASSES)) == ledger(graph, plan, batch=n).by_layer


def check(model, shape, plan, n):
    graph = capture(model, torch.zeros(1, *shape, dtype=torch.float64))
    plan = plan(graph)
    check_gradients(model, graph, plan, shape, n)
    if len(shape) == 3:
        check_gradients(model, graph, plan, shape, n, channels_last=True)
    check_rest_is_untouched(model, graph, plan, shape, n)
    check_bytes(model, graph, plan, shape)


@FEW
@given(st.data(), geometries(), st.integers(1, 3))
def test_convolutions(data, geometry, n):
    check(geometry.build(), (2, *geometry.size), lambda graph: draw_plan(data.draw, graph), n)


@FEW
@given(
    st.data(),
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(1, 6),
    st.integers(1, 6),
    st.booleans(),
    st.integers(1, 3),
)
def test_linear_layers(data, axes, inputs, outputs, bias, n):
    """Inputs (n, c), (n, t, c) and (n, h, w, c)."""
    layers = [nn.Linear(3, inputs), nn.GELU(), nn.Linear(inputs, outputs, bias=bias), nn.Tanh(), nn.Flatten()]
    size = torch.Size([outputs, *axes]).numel()
    model = randomise(nn.Sequential(*layers, nn.Linear(size, N_CLASSES)).double())
    check(model, (*axes, 3), lambda graph: draw_plan(data.draw, graph), n)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(8, 12, 1), nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)],
    ids=["pointwise", "dense", "depthwise"],
)
def test_frozen_units_save_the_work_of_their_weight_gradient(conv, axis, channels_last):
    """Half of the channels or neurons: half of the floating-point operations that all of them take."""
    model, x = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)), torch.randn(2, 8, 6, 6)
    model(x)
    graph = capture(model, x[:1])
    units = {"in": conv.in_channels, "out": conv.out_channels}[axis]

    def flops(n_units):
        chosen = ChannelSet("0", axis, tuple(range(n_units)))
        step = prepare(model, None, UpdatePlan((chosen,), classifier=False), graph, channels_last=channels_last)
        loss = step(x).sum()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        passing = 2 * 2 * 3 * graph.layer["0"].output_elements  # The gradient through the linear layer.
        # Of a convolution with as many groups as channels the counter counts all pairs of channels.
        return (counter.get_total_flops() - passing) // (n_units if conv.groups > 1 else 1)

    half, whole = flops(units // 2), flops(units)
    assert 2 * half == whole == 2 * 2 * graph.layer["0"].macs
