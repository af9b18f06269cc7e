"""Programs of random networks, where values branch and meet: in-place work must never be seen."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.capture import capture
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer
from kilotune.ops.prepare import prepare
from tests.oracles.dense import FLOAT64_TOLERANCE, dense_gradients, everything, expected_gradients
from tests.oracles.networks import RandomNetwork, batch, wirings


@settings(max_examples=40)
@given(wirings, st.sampled_from(["in", "out"]), st.booleans())
def test_random_networks(wiring, axis, channels_last):
    model = RandomNetwork(wiring)
    x, y = batch((2, 6, 6), 2, 5, dtype=torch.float64)
    graph = capture(model, x)
    plan = everything(graph, axis)
    dense = dense_gradients(model, x, y)
    expected = expected_gradients(graph, plan, dense)
    step = prepare(model, None, plan, graph, torch.float64, channels_last)
    F.cross_entropy(step(x), y).backward()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, parameter in step.live.items():
        assert float((parameter.grad - expected[name]).abs().max()) < FLOAT64_TOLERANCE * largest, name
    step = prepare(model.float(), None, plan, graph, channels_last=channels_last)
    x, y = batch((2, 6, 6), 3, 5)
    # In another memory layout than that of the step the image is copied, and hooks cannot know that the copy is the image.
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert saved_by_layer(step, x, y) == ledger(graph, plan, batch=3).by_layer


def test_values_are_freed_after_their_last_reader():
    model = RandomNetwork((("relu", 0, 0), ("pointwise", 1, 0), ("relu", 2, 0), ("pointwise", 3, 0)))
    graph = capture(model, torch.zeros(1, 2, 6, 6, dtype=torch.float64))
    program = prepare(model, None, everything(graph), graph, dtype=torch.float64).program
    freed = [name for call in program._instructions for name in call.dead]
    assert len(freed) == len(set(freed))
    assert set(freed) == {name for node in graph.nodes for name in node.inputs}
