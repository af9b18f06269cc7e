"""The picture is well-formed and has every buffer where the arena has it."""

from xml.etree import ElementTree

import pytest

from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout
from kilotune.report.arena_svg import COLORS, arena_svg
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.modules import captured

NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("channels", [(), (0, 2)])
def test_every_buffer_is_a_rectangle(channels):
    graph = captured("nn.ReLU")
    plan = UpdatePlan((ChannelSet(graph.body[0].name, "in", channels),) if channels else ())
    layout = Layout.of_plan(graph, plan, Accounting())
    root = ElementTree.fromstring(arena_svg(layout, plan))
    rectangles = [one for one in root.iter(f"{NAMESPACE}rect") if one.find(f"{NAMESPACE}title") is not None]
    n_kept = int((layout.stack(plan) > 0).sum())
    assert len(rectangles) == len(layout.arena.buffers) + n_kept
    assert (n_kept > 0) == bool(channels)
    titles = [one.findtext(f"{NAMESPACE}title") for one in rectangles]
    for buffer, offset in zip(layout.arena.buffers, layout.arena.offsets, strict=True):
        assert f"{buffer.name}: {buffer.nbytes:,} B at {offset:,}" in titles
    assert {one.get("fill") for one in rectangles} <= set(COLORS.values())
    assert max(float(one.get("y")) + float(one.get("height")) for one in rectangles) <= 480 + 24 + 0.01
