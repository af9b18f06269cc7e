"""Lifetimes against an interpreter that executes the step on bytes: every read finds its value intact."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kilotune.graph.backward import StepGraph
from kilotune.graph.capture import capture
from kilotune.memory.arena import pack
from kilotune.memory.buffer import Buffer, aligned
from kilotune.memory.lifetime import Timeline
from kilotune.update_plan import UpdatePlan
from tests.oracles.dense import everything
from tests.oracles.modules import MODULES, captured
from tests.oracles.networks import RandomNetwork, wirings
from tests.oracles.timeline import Interpreter
from tests.oracles.zoo import NETWORKS, captured_network

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")


def execute(graph, plan, through=(), batch=1):
    timeline = Timeline(StepGraph.of(graph, plan, through), batch)
    return Interpreter(timeline, pack(timeline.buffers, len(timeline.names))).run()


@pytest.mark.parametrize("name", MODULES)
def test_operations(name):
    graph = captured(name)
    assert execute(graph, everything(graph)) > len(graph.nodes)
    execute(graph, UpdatePlan(), batch=2)


@settings(max_examples=40)
@given(wirings, st.integers(0, 3))
@example(
    (("pointwise", 0, 0), ("add", 1, 0)), 0
)  # the gradient of a sum, added to itself while the other operand reads it
def test_random_networks(wiring, n_frozen):
    graph = capture(RandomNetwork(wiring), torch.zeros(1, 2, 6, 6, dtype=torch.float64))
    body = [layer.name for layer in graph.body]
    execute(graph, UpdatePlan((), tuple(body[n_frozen:])))
    execute(graph, UpdatePlan(classifier=False), tuple(body[n_frozen:]))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(torchvision_models, name):
    pytest.importorskip("timm")
    graph = captured_network(name)
    for plan in (everything(graph), UpdatePlan(), UpdatePlan(classifier=False)):
        execute(graph, plan)


def test_the_interpreter_notices_damage():
    graph = captured("nn.SiLU")
    timeline = Timeline(StepGraph.of(graph, everything(graph)))
    arena = pack(timeline.buffers, len(timeline.names))
    same_place = type(arena)(arena.buffers, (0,) * len(arena.buffers), arena.n_steps)
    with pytest.raises(AssertionError, match=r"damaged|overwritten"):
        Interpreter(timeline, same_place).run()


def test_steps_have_names():
    timeline = Timeline(StepGraph.of(captured("nn.ReLU"), UpdatePlan()))
    assert timeline.names[0].startswith("forward x")
    assert timeline.names[timeline.loss_at] == "loss"
    assert timeline.names[-1] == "backward linear"


def test_work_in_place():
    """conv -> ReLU -> flatten: one buffer; what SiLU needs of its input stays beside its output."""
    by_kind = {}
    for name in ("nn.ReLU", "nn.SiLU"):
        timeline = Timeline(StepGraph.of(captured(name), everything(captured(name))))
        by_kind[name] = [buffer.nbytes for buffer in timeline.buffers if buffer.kind == "activation"]
    assert sorted(by_kind["nn.ReLU"]) == [5 * 4, 288 * 4]
    assert sorted(by_kind["nn.SiLU"]) == [5 * 4, 288 * 4, 288 * 4]


def test_buffers_grow_with_the_batch():
    graph = captured("nn.ReLU")
    one, three = (Timeline(StepGraph.of(graph, everything(graph)), n).buffers for n in (1, 3))
    assert [b.nbytes * 3 for b in one if b.kind != "mask"] == [b.nbytes for b in three if b.kind != "mask"]


def test_overlap_and_alignment():
    a, b, c = (
        Buffer(name, 4, "activation", "", *span) for name, span in {"a": (0, 2), "b": (2, 3), "c": (3, 4)}.items()
    )
    assert a.overlaps(b)
    assert b.overlaps(a)
    assert not a.overlaps(c)
    assert [aligned(n) for n in (0, 1, 4, 5)] == [0, 4, 4, 8]
