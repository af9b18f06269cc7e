"""What commits cost: the image of an exported project, and pages counted one by one."""

import pytest
import torch

from kilotune.codegen.drawing import find_drawing
from kilotune.codegen.wear import image_bytes, largest_image_bytes, wear
from kilotune.deploy.describe import lay_out
from kilotune.deploy.export import Export
from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import Layout
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.train.recipe import Recipe
from kilotune.update_plan import Budget

INPUT, BUDGET = (3, 32, 32), "160KiB"


@pytest.fixture(scope="module", params=["medyate", "trady", "dgsu"])
def case(request):
    graph = capture(pretrained_digitnet(), torch.zeros(1, *INPUT))
    selector = Selector.fit(graph, make(request.param), Budget.parse(BUDGET))
    return request.param, selector, selector.draw()


def test_the_image_is_that_of_the_exported_project(case):
    """The project has room for the largest draw, the ledger counts the draw that it is given."""
    name, selector, plan = case
    recipe = Recipe.of(model="digitnet", input=INPUT, policy=name, budget=BUDGET)
    program, drawing, _, _ = Export(pretrained_digitnet(), recipe, "float32", True)._program(0.0)
    layers = selector.fitting.task.graph.layer
    n_channels = sum(len(one.indices) for one in plan.channels)
    n_weights = sum(len(one.indices) * layers[one.layer].channel_weight_elements for one in plan.channels)
    ours, theirs = (
        image_bytes(Layout.of_plan(selector.fitting.task.graph, plan, Accounting()), plan),
        program.image_bytes,
    )
    missing = 4 * 2 * (drawing.max_weights - n_weights) + 2 * (drawing.max_channels - n_channels)
    assert abs(theirs - ours - missing) < 8, "the draw is padded to eight bytes"
    assert largest_image_bytes(selector) == theirs
    assert find_drawing(selector, 0) is not None
    assert lay_out(selector.fitting.task.graph, plan, Accounting()).pool


def test_pages_and_epochs_by_hand(case):
    _, selector, plan = case
    layout = Layout.of_plan(selector.fitting.task.graph, plan, Accounting())
    found = wear(layout, plan, commits_per_epoch=3, erases=1000, page_bytes=256)
    written = 64 + -(-found.image_bytes // 32) * 32
    pages = -(-written // 256)
    assert found.bytes_per_commit == written
    assert found.bytes_per_epoch == 3 * written
    assert found.store_bytes == 2 * pages * 256
    assert found.erases_per_epoch == 3 * pages
    assert found.epochs == pytest.approx(1000 * 2 * pages / found.erases_per_epoch)
