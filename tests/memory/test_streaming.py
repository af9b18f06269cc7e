"""Streamed timelines against the interpreter, and what the search for them promises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.errors import PlanError
from kilotune.graph.backward import StepGraph
from kilotune.memory.accounting import Accounting
from kilotune.memory.arena import pack
from kilotune.memory.ledger import ledger
from kilotune.memory.lifetime import Timeline
from kilotune.memory.segments import Segment, find_blocks
from kilotune.memory.streaming import MOST_EXTRA, live_bytes, stream, trades
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.policies.published import BUDGETS
from kilotune.update_plan import Budget, UpdatePlan
from tests.oracles.blocks import captured_blocks, shapes
from tests.oracles.timeline import Interpreter
from tests.oracles.zoo import captured_published

KIB = 1024


def step_of(graph, front: int) -> StepGraph:
    """The step in which all layers from number ``front`` on may be trained."""
    return StepGraph.of(graph, UpdatePlan(), through=tuple(layer.name for layer in graph.body[front:]))


@settings(max_examples=15)
@given(st.lists(shapes, min_size=1, max_size=4), st.integers(0, 12))
def test_nothing_is_overwritten_before_it_is_read(some, front):
    graph = captured_blocks(some)
    step = step_of(graph, min(front, len(graph.body) - 1))
    timeline = stream(step)
    assert Interpreter(timeline, pack(timeline.buffers, len(timeline.names))).run() > 0
    everything = Timeline(step, forward=tuple(Segment((block,), ("channels",)) for block in find_blocks(graph)))
    Interpreter(everything, pack(everything.buffers, len(everything.names))).run()


@settings(max_examples=10)
@given(st.lists(shapes, min_size=1, max_size=4), st.integers(0, 12))
def test_streaming_never_needs_more(some, front):
    graph = captured_blocks(some)
    step = step_of(graph, min(front, len(graph.body) - 1))
    plain, timeline = Timeline(step), stream(step)
    born = timeline.forward_at[step.steps[-1].node.name]
    before, after = live_bytes(timeline)[:born].max(initial=0), live_bytes(timeline)[born:].max()
    first = plain.forward_at[step.steps[-1].node.name]
    assert before <= live_bytes(plain)[:first].max(initial=0) or after <= live_bytes(plain)[first:].max()
    assert sum(trade.extra_macs for trade in trades(timeline)) <= MOST_EXTRA * graph.macs
    for trade in trades(timeline):
        assert trade.bytes <= live_bytes(timeline).max()


def test_kept_things_are_the_same_either_way():
    """Streaming changes what is in flight, never what is handed from forward to backward."""
    step = step_of(captured_published("mobilenet_v2_w0.35"), 10)
    plain, timeline = Timeline(step), stream(step)
    masks = [{(b.name, b.nbytes) for b in one.buffers if b.kind == "mask"} for one in (plain, timeline)]
    assert masks[0] == masks[1]
    inside = {node.name for segment in timeline.forward for node in segment.nodes[:-1]}
    assert not inside & {buffer.name for buffer in timeline.buffers}


def test_a_block_that_costs_nothing_runs_plainly():
    """Only the classifier is trained: behind the first blocks no step is the fullest one."""
    timeline = stream(StepGraph.of(captured_published("mobilenet_v2_w0.35"), UpdatePlan()))
    assert not timeline.backward
    assert {segment.blocks[0].nodes[0].layer for segment in timeline.forward} >= {"features.0.0"}
    assert len(timeline.forward) < len(find_blocks(timeline.step_graph.graph))


@pytest.fixture(scope="module")
def published():
    """MeDyate on MobileNetV2-w0.35 at 3x128x128, ten classes, at the smallest published budget."""
    graph = captured_published("mobilenet_v2_w0.35_mix")
    accounting = Accounting(accumulate=False, streamed=True, program_bytes=4 * KIB)
    budget = Budget(4 * BUDGETS["mobilenet_v2_w0.35"][0], "selection")
    return Selector.fit(graph, make("medyate"), budget, 0, accounting)


def test_published_budget_trains_within_256_kib(published):
    """Every draw, everything counted: image, stack and data of the program, overlay, classifier, norms."""
    worst = published.worst_case
    assert worst.selection_elements == 27_946
    assert worst.total_bytes <= 256 * KIB
    report = published.layout.report(published.draw())
    assert report.total_bytes <= worst.total_bytes
    assert report.by_kind["program"] == 4 * KIB
    plain = Selector.fit(
        published.fitting.task.graph, published.policy, Budget(4 * 27_946, "selection"), 0, Accounting(accumulate=False)
    )
    assert plain.worst_case.total_bytes > 4 * worst.total_bytes


def test_gradients_of_one_channel_at_a_time(published):
    """The widest pointwise layer has 336 outputs: its gradient takes 336 numbers, however many channels are trained."""
    layout = published.layout
    step = layout.timeline.backward_at[layout.graph.find_layer("features.16.conv.0.0").node]
    assert layout.stack(UpdatePlan(()))[step] == 336 * 4
    summed = Accounting(accumulate=True, streamed=True)
    assert ledger(layout.graph, UpdatePlan(), accounting=summed).by_kind["classifier_gradient"] == 4490 * 4


def test_a_firmware_has_one_sample_in_memory():
    with pytest.raises(PlanError, match="one sample"):
        Accounting(batch=2, streamed=True)
