"""What streaming costs: as counted on the emulated board, and as the planner reckons."""

import json
from pathlib import Path

import pytest
import torch

from kilotune import models
from kilotune.graph.capture import capture
from kilotune.memory import instructions
from kilotune.memory.segments import find_blocks

COUNTED = Path(__file__).parents[2] / "benchmarks" / "results" / "stream_cost.json"


@pytest.fixture(scope="module")
def counted():
    return json.loads(COUNTED.read_text())


@pytest.fixture(scope="module")
def blocks(counted):
    """By network, size and first layer."""
    found = {}
    for network, side in {(row["network"], row["side"]) for row in counted["rows"]}:
        graph = capture(models.create(network, classes=10), torch.zeros(1, 3, side, side))
        found |= {(network, side, block.nodes[0].layer): block for block in find_blocks(graph)}
    return found


def reckoned(blocks, row):
    block = blocks[row["network"], row["side"], row["layer"]]
    if row["direction"] == "backward":
        return instructions.extra_backward(block)
    return instructions.extra_forward(block, row["mode"])


def test_the_planner_reckons_with_what_was_counted(counted, blocks):
    """Within a tenth on average; no block is off by more than a quarter."""
    for direction in ("forward", "backward"):
        rows = [row for row in counted["rows"] if row["direction"] == direction]
        errors = [abs(reckoned(blocks, row) / row["counted"] - 1) for row in rows]
        assert max(errors) < 0.25
        assert sum(errors) / len(errors) < 0.1


def test_the_rates_are_those_fitted_to_the_counts(counted):
    for direction, rates in (("forward", instructions.FORWARD), ("backward", instructions.BACKWARD)):
        assert rates == pytest.approx(counted[direction]["rates"], rel=0.05)


def test_the_order_of_dearness_is_that_of_the_counts(counted, blocks):
    """Blocks that differ by three tenths or more are ranked as they were counted, where the planner chooses among them."""
    rows = [row for row in counted["rows"] if row["mode"] == "channels" and row["direction"] == "forward"]
    pairs = [
        (one, other)
        for one in rows
        for other in rows
        if one["network"] == other["network"]
        and one["side"] == other["side"]
        and one["counted"] > 1.3 * other["counted"]
    ]
    assert len(pairs) > 100
    assert all(reckoned(blocks, one) > reckoned(blocks, other) for one, other in pairs)
