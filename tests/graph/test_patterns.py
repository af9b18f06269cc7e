"""The table of kernel patterns."""

import pytest
import torch
from torch import nn

from kilotune.graph.capture import capture
from kilotune.graph.patterns import BUFFER, has_patterns, n_taps, patterns


@pytest.mark.parametrize(("side", "taps"), [(3, 4), (5, 9), (7, 16)])
def test_eight_different_patterns_of_the_same_size_with_the_centre(side, taps):
    table = patterns(side)
    assert len(set(table)) == 8
    assert {len(pattern) for pattern in table} == {taps} == {n_taps(side)}
    assert all(pattern == tuple(sorted(set(pattern))) for pattern in table)
    assert all(side * side // 2 in pattern for pattern in table)
    assert set().union(*table) == set(range(side * side))  # no tap is lost to all of them


def test_patterns_of_3x3_drawn_out():
    def picture(pattern):
        marks = ["x" if place in pattern else "." for place in range(9)]
        return "/".join("".join(marks[row : row + 3]) for row in (0, 3, 6))

    assert [picture(pattern) for pattern in patterns(3)] == [
        "xx./xx./...", ".xx/.xx/...", ".../.xx/.xx", ".../xx./xx.",
        "xxx/.x./...", "..x/.xx/..x", ".../.x./xxx", "x../xx./x..",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "yes"), [((3, 3), True), ((7, 7), True), ((1, 1), False), ((3, 5), False), ((4, 4), False)]
)
def test_which_kernels_have_patterns(kernel, yes):
    assert has_patterns(kernel) == yes


def test_a_captured_layer_with_patterns_has_fewer_weights():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.Flatten(), nn.Linear(144, 2))
    plain = capture(model, torch.zeros(1, 3, 6, 6)).layer["1"]
    model[1].register_buffer(BUFFER, torch.zeros(4, 1, dtype=torch.uint8))
    graph = capture(model, torch.zeros(1, 3, 6, 6))
    layer = graph.layer["1"]
    assert (plain.channel_weight_elements, layer.channel_weight_elements, layer.neuron_weight_elements) == (25, 9, 9)
    assert (layer.weight_elements, layer.macs) == (36, plain.macs)
    assert graph.weighted("1").pattern == "1.pattern"
    assert graph.weighted("0").pattern is None
