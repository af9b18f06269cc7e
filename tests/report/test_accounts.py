import pytest
import torch
from torch import nn

from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout
from kilotune.report.accounts import account_text, fixed_text, head_room_text, layers_text, ledgers_text
from kilotune.update_plan import ChannelSet, UpdatePlan

PLAN = UpdatePlan((ChannelSet("0", "in", (1,)), ChannelSet("2", "out", (0, 2, 5))), biases=("2",))


@pytest.fixture(scope="module")
def layout() -> Layout:
    """The step of two convolutions and a classifier."""
    convolutions = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3)]
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return Layout.of(capture(model, torch.zeros(1, 2, 8, 8)), ("0", "2"), ("2",), True, Accounting())


def cells(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(f"{name} "))


def test_layers_are_charged_as_the_papers_do(layout):
    text = layers_text(layout.graph, PLAN, layout.report(PLAN))
    # One input channel: 6 filters of 3x3 and a plane of 8x8. Three neurons: 3 filters of 6x3x3 and the whole input.
    assert cells(text, "0") == ["0", "in", "1/2", "54", "64", "472"]
    assert cells(text, "2") == ["2", "out", "3/8", "162", "384", "2,184"]
    assert cells(text, "sum") == ["sum", "216", "448", "2,656"]


def test_kinds_add_up_to_the_total(layout):
    report = layout.report(PLAN)
    by_kind = ledgers_text(layout, report).split("total by kind")[1].splitlines()[2:]
    assert sum(int(line.split()[-2].replace(",", "")) for line in by_kind) == report.total_bytes
    assert f"{report.saved_bytes:,}" in cells(ledgers_text(layout, report), "saved")


def test_what_is_trained_besides_is_named(layout):
    assert fixed_text(layout.graph, PLAN) == "trained besides: the classifier 5, biases: 1 layer(s)"
    assert fixed_text(layout.graph, UpdatePlan(classifier=False)) == "trained besides: no classifier, no biases"


def test_the_account_has_every_part(layout):
    report = layout.report(PLAN)
    text = account_text(layout.graph, PLAN, layout, report)
    assert layers_text(layout.graph, PLAN, report) in text
    assert "\nbackward 2 " in text


def test_head_room_is_the_rest_of_the_budget():
    text = head_room_text(2048, 1024)
    assert text == "head-room in the worst case: 1,024 B (1.0 KiB) of 2,048 B (2.0 KiB)"
