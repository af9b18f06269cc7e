import numpy as np
import pytest
import torch
from torch import nn

from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout
from kilotune.report.picture import LETTERS, occupancy, picture, step_name
from kilotune.update_plan import ChannelSet, Keep, UpdatePlan

PLAN = UpdatePlan((ChannelSet("0", "in", (1,)), ChannelSet("3", "in", (0, 2, 5))))
WORD = 4  # Every buffer is a multiple of four bytes at a multiple of four: parts of this size are full or empty.


@pytest.fixture(scope="module", params=[True, False], ids=["accumulating", "at once"])
def layout(request) -> Layout:
    """The step of a small network."""
    body = [nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 8, 3, stride=2), nn.Hardswish()]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    graph = capture(model, torch.zeros(1, 2, 8, 8))
    return Layout.of(graph, ("0", "3"), ("3",), True, Accounting(accumulate=request.param))


def rows(text: str) -> list[tuple[str, str, int]]:
    """(step, cells, bytes in use) of each line."""
    split = [line.rsplit(None, 2) for line in text.splitlines()[1:]]
    return [(name.strip(), cells, int(in_use.replace(",", ""))) for name, cells, in_use in split]


def test_at_full_size_every_byte_is_drawn(layout):
    stack = layout.stack(PLAN)
    n_steps = len(layout.timeline.names)
    top = int((layout.arena.extent + stack).max())
    drawn = rows(picture(layout, PLAN, width=top // WORD, height=n_steps))
    assert len(drawn) == n_steps
    for step, (name, cells, in_use) in enumerate(drawn):
        assert name == step_name(layout, step)
        expected = dict.fromkeys(LETTERS, 0) | {"kept": int(stack[step])}
        for buffer in layout.arena.buffers:
            expected[buffer.kind] += buffer.nbytes * (buffer.first <= step <= buffer.last)
        expected["free"] = top - sum(expected.values())
        assert {kind: WORD * cells.count(letter) for kind, letter in LETTERS.items()} == expected
        assert in_use == layout.arena.extent[step] + stack[step]


def test_buffers_lie_at_their_offsets_and_kept_channels_on_the_right(layout):
    stack = layout.stack(PLAN)
    top = int((layout.arena.extent + stack).max())
    drawn = rows(picture(layout, PLAN, width=top // WORD, height=len(stack)))
    for buffer, offset in zip(layout.arena.buffers, layout.arena.offsets, strict=True):
        cells = drawn[buffer.first][1][offset // WORD : (offset + buffer.nbytes) // WORD]
        assert set(cells) == {LETTERS[buffer.kind]}
    for step, (_, cells, _) in enumerate(drawn):
        assert cells.endswith(LETTERS["kept"] * (int(stack[step]) // WORD))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 5), (64, 12)])
def test_a_small_picture_keeps_the_fullest_step(layout, width, height):
    drawn = rows(picture(layout, PLAN, width, height))
    assert len(drawn) == height
    assert {len(cells) for _, cells, _ in drawn} == {width}
    assert max(in_use for _, _, in_use in drawn) == int((layout.arena.extent + layout.stack(PLAN)).max())


def test_the_parts_add_up_to_the_memory(layout):
    stack = layout.stack(PLAN)
    top = int((layout.arena.extent + stack).max())
    for step in range(len(stack)):
        filled = occupancy(layout, step, int(stack[step]), top, 13)
        np.testing.assert_allclose(filled.sum(0), top / 13)
        assert filled.min() > -1e-6


def test_long_names_keep_both_ends(layout):
    class Long(nn.Module):
        def __init__(self):
            super().__init__()
            self.a_rather_long_name_for_the_first_block_of_layers = nn.ModuleDict({"convolution": nn.Conv2d(2, 3, 1)})

        def forward(self, x):
            return self.a_rather_long_name_for_the_first_block_of_layers["convolution"](x).mean((2, 3))

    graph = capture(Long(), torch.zeros(1, 2, 4, 4))
    text = picture(Layout.of(graph, (), (), True, Accounting()), UpdatePlan())
    assert "\nforward a_rather_lo…f_layers.convolution " in text


def test_scratch_of_ways_of_keeping_is_drawn_as_scratch():
    """Below the kept channels, at the steps at which they are compressed and read."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 2)
    )
    plan = UpdatePlan((ChannelSet("2", "in", (0, 1, 2)),), keeps=(Keep("2", "int8"),))
    graph = capture(model, torch.zeros(1, 1, 8, 8))
    layout = Layout.of_plan(graph, plan, Accounting())
    stack, working = layout.stack(plan), layout.scratch(plan)
    node = graph.layer["2"].node
    assert sorted(np.flatnonzero(working)) == [layout.timeline.forward_at[node], layout.timeline.backward_at[node]]
    top = int((layout.arena.extent + stack).max())
    for step in np.flatnonzero(working):
        drawn = occupancy(layout, step, int(stack[step]), top, 16, int(working[step])).sum(1)
        fixed = sum(b.nbytes for b in layout.arena.buffers if b.kind == "scratch" and b.first <= step <= b.last)
        assert drawn[list(LETTERS).index("scratch")] == pytest.approx(working[step] + fixed)
        assert drawn[list(LETTERS).index("kept")] == pytest.approx(stack[step] - working[step])
    report = layout.report(plan)
    assert report.total_bytes == sum(report.by_kind.values())
