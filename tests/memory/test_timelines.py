"""Shared timelines are the very timelines that each pool would have of its own, and are packed once."""

from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.graph.backward import StepGraph
from kilotune.graph.capture import capture
from kilotune.memory import timelines
from kilotune.memory.accounting import Accounting
from kilotune.memory.arena import pack
from kilotune.memory.ledger import Layout
from kilotune.memory.lifetime import Timeline
from kilotune.memory.streaming import stream
from kilotune.memory.timelines import Timelines
from kilotune.update_plan import Keep, UpdatePlan
from tests.oracles.networks import RandomNetwork, wirings
from tests.oracles.zoo import captured_published


def same(ours: Timeline, theirs: Timeline) -> bool:
    return (ours.names, ours.buffers, ours.step_graph.steps) == (theirs.names, theirs.buffers, theirs.step_graph.steps)


@settings(max_examples=25)
@given(st.data(), wirings)
def test_every_pool_has_its_own_timeline(data, wiring):
    graph = capture(RandomNetwork(wiring), torch.zeros(1, 2, 6, 6, dtype=torch.float64))
    shared = Timelines(graph, Accounting())
    for classifier in (True, False, True):
        pool, biases = (tuple(layer.name for layer in graph.body if data.draw(st.booleans())) for _ in range(2))
        own = StepGraph.of(graph, UpdatePlan((), biases, classifier), through=pool)
        assert same(shared.of(pool, biases, classifier).timeline, Timeline(own))


@pytest.mark.parametrize("name", ["mobilenet_v2_w0.35", "mcunet_in1"])
def test_streamed_blocks_depend_on_what_is_compressed(name):
    graph = captured_published(name)
    body = [layer.name for layer in graph.body]
    shared = Timelines(graph, Accounting(streamed=True))
    for first, way in product((10, 30, 40), (None, "int8", "int4")):
        pool = tuple(body[first:])
        keeps = tuple(Keep(layer, way) for layer in pool[::2] if way)
        own = StepGraph.of(graph, UpdatePlan(), through=pool)
        expected = stream(own, compressed=frozenset(keep.layer for keep in keeps))
        assert same(shared.of(pool, (), True, keeps).timeline, expected)
    assert len(shared._sheets) == 6, "the two ways compress the same layers"


def test_pools_with_the_same_deepest_layer_share_it_and_equal_stacks_are_packed_once():
    graph = captured_published("mcunet_in1")
    body = [layer.name for layer in graph.body]
    shared = Timelines(graph, Accounting())
    pools = [tuple(body[20:]), (body[20], body[-1]), tuple(body[20:])]
    layouts = [Layout.of(graph, pool, (), True, Accounting(), timelines=shared) for pool in pools]
    assert len({id(layout.timeline) for layout in layouts}) == 1
    with patch.object(timelines, "pack", side_effect=pack) as packer:
        arenas = [layout.arena for layout in layouts]
    assert packer.call_count == 2
    assert arenas[0] is arenas[2]


def test_a_layer_that_is_always_whole_is_laid_out_as_the_classifier_is():
    """Its input is read where it is, its weights stay beside the stack; nothing of it is in the pool."""
    graph = captured_published("mcunet_in1")
    layer = graph.body[-3]
    layout = Layout.of(graph, (), (), False, Accounting(), whole=(layer.name,))
    drawn = Layout.of(graph, (layer.name,), (), False, Accounting())
    root = graph.root[graph.node[layer.node].inputs[0]]
    (kept,) = [one for one in layout.timeline.buffers if one.name == layout.timeline.place[root]]
    assert kept.last == layout.timeline.backward_at[layer.node]
    assert layout.resident_bytes == 4 * 2 * layer.weight_elements
    assert drawn.resident_bytes == 0
    plan = UpdatePlan((layer.whole(),), (), False)
    whole, copied = layout.report(UpdatePlan((), (), False)), drawn.report(plan)
    assert whole.total_bytes <= copied.total_bytes
    assert whole.by_kind["whole"] + whole.by_kind["whole_gradient"] == layout.resident_bytes


def test_a_worst_case_knows_its_floor_before_anything_is_packed():
    graph = captured_published("mcunet_in1")
    pool = tuple(layer.name for layer in graph.body)
    layout = Layout.of(graph, pool, (), True, Accounting())
    worst = layout.worst(np.array([layer.in_channels for layer in graph.body]), 10_000, 0)
    assert not worst.fits(worst.floor_bytes - 1)
    assert "arena" not in vars(layout)
    assert layout.floor_bytes < worst.floor_bytes <= worst.nbytes
    assert worst.fits(worst.nbytes)
    assert not worst.fits(worst.nbytes - 1)
