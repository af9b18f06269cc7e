"""Training patterned kernels: the taps of the patterns of dense autograd's gradient, and nothing else stored or changed."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune.graph.capture import capture
from kilotune.graph.patterns import BUFFER, patterns
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_bytes
from kilotune.ops.prepare import prepare
from kilotune.ops.slices import Slice
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.dense import FLOAT64_TOLERANCE, dense_gradients, relative_error
from tests.oracles.networks import batch, randomise, some_of


def _network(groups: int, inputs: int, outputs: int, side: int, stride: int, dilation: int, seed: int) -> nn.Module:
    """A patterned convolution with uneven padding and a batch norm, between two others."""
    conv = nn.Conv2d(groups * inputs, groups * outputs, side, stride, 0, dilation, groups, bias=False)
    body = [nn.Conv2d(2, groups * inputs, 1), nn.ReLU(), nn.ZeroPad2d((side, side - 1, 1, side)), conv]
    body += [nn.BatchNorm2d(groups * outputs), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = randomise(nn.Sequential(*body, nn.Linear(groups * outputs, 5)).double().eval(), seed)
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(len(patterns(side)), conv.weight.shape[:2], generator=generator).to(torch.uint8)
    conv.register_buffer(BUFFER, numbers)
    kept = torch.zeros(len(patterns(side)), side * side, dtype=torch.float64)
    for number, taps in enumerate(patterns(side)):
        kept[number, list(taps)] = 1
    conv.weight.data *= kept[numbers.long()].view_as(conv.weight)
    return model


@settings(max_examples=60)
@given(
    data=st.data(),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    side=st.sampled_from([3, 5]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    axis=st.sampled_from(["in", "out"]),
)
def test_gradient_is_that_of_dense_autograd_at_the_taps(data, groups, inputs, outputs, side, stride, dilation, axis):
    model = _network(groups, inputs, outputs, side, stride, dilation, data.draw(st.integers(0, 9)))
    chosen = ChannelSet("3", axis, some_of(data.draw, groups * {"in": inputs, "out": outputs}[axis]))
    x, y = batch((2, 9, 8), 3, 5, dtype=torch.float64)
    graph, plan = capture(model, x), UpdatePlan((chosen,))
    step = prepare(model, x, plan, graph, dtype=torch.float64)
    F.cross_entropy(step(x), y).backward()
    op = graph.weighted("3")
    piece = Slice.of(op, chosen, {"3.weight": model[3].weight, "3.pattern": model[3].pattern})
    live = step.live["3.weight"]
    assert relative_error(live.grad, piece.cut(dense_gradients(model, x, y)["3.weight"])) < FLOAT64_TOLERANCE
    report = ledger(graph, plan, batch=3)
    assert live.numel() == report.weight_elements


def test_training_changes_the_taps_and_leaves_the_zeros():
    model = _network(6, 1, 1, 3, 1, 1, 0)
    before = model[3].weight.detach().clone()
    x, y = batch((2, 9, 8), 4, 5, dtype=torch.float64)
    step = prepare(model, x, UpdatePlan((ChannelSet("3", "in", (0, 2, 5)),)), dtype=torch.float64)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(step(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        expected = step(x)
    step.sync()
    with torch.no_grad():
        assert relative_error(model(x), expected) < FLOAT64_TOLERANCE
    weight = model[3].weight.detach()
    assert torch.equal(weight == 0, before == 0)
    changed = (weight != before).flatten(1).any(1).nonzero().flatten().tolist()
    assert changed == [0, 2, 5]


@pytest.mark.parametrize("channels", [(1,), (0, 1, 2, 3, 4, 5)])
def test_autograd_keeps_the_predicted_bytes(channels):
    model = _network(6, 1, 1, 3, 1, 1, 0).float()
    x, y = batch((2, 9, 8), 2, 5)
    graph, plan = capture(model, x), UpdatePlan((ChannelSet("3", "in", channels),))
    assert saved_bytes(prepare(model, x, plan, graph), x, y) == ledger(graph, plan, batch=2).saved_bytes


def test_the_ledger_sees_four_taps_of_nine():
    model = _network(6, 1, 1, 3, 1, 1, 0)
    x = torch.zeros(1, 2, 9, 8, dtype=torch.float64)
    plan = UpdatePlan((ChannelSet("3", "in", (0, 1)),))
    patterned = ledger(capture(model, x), plan)
    delattr(model[3], BUFFER)
    dense = ledger(capture(model, x), plan)
    assert (patterned.weight_elements, dense.weight_elements) == (2 * 4, 2 * 9)
    assert dense.by_kind["overlay"] - patterned.by_kind["overlay"] == 2 * 5 * 4
    assert dense.by_kind["overlay_gradient"] - patterned.by_kind["overlay_gradient"] == 2 * 5 * 4
