"""Inputs made again, for some features or all, are what the forward pass made; and they are kept nowhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune.graph.backward import StepGraph
from kilotune.graph.capture import capture
from kilotune.graph.node import Activation, LayerNorm
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer
from kilotune.ops.again import make_again
from kilotune.ops.forward import FORWARD
from kilotune.ops.prepare import prepare
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.dense import FLOAT64_TOLERANCE, dense_gradients, everything, expected_gradients, relative_error
from tests.oracles.networks import randomise

N, TOKENS, WIDTH = 2, 6, 8


class Block(nn.Module):
    """A linear layer, then a layer norm and GELU each with a linear layer behind it; windows of tokens in between."""

    def __init__(self, affine: bool = True):
        super().__init__()
        self.embed = nn.Linear(5, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=affine)
        self.wide = nn.Linear(WIDTH, 12)
        self.narrow = nn.Linear(12, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        y = self.norm(self.embed(x)).roll(1, 1).reshape(x.shape[0], 2, 3, WIDTH).transpose(1, 2).reshape(-1, 2, WIDTH)
        y = self.narrow(F.gelu(self.wide(y), approximate="tanh"))
        return self.head(y.reshape(x.shape[0], TOKENS, WIDTH).mean(1))


@pytest.fixture(params=[True, False], ids=["affine", "plain"])
def model(request):
    return randomise(Block(request.param).double())


def data():
    return torch.randn(N, TOKENS, 5, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0, 2])


def test_the_way_back_goes_to_what_keeps_its_input(model):
    graph = capture(model, data()[0])
    steps = {step.node.layer: step for step in StepGraph.of(graph, everything(graph)).steps}
    wide, narrow = (steps[name].again for name in ("wide", "narrow"))
    assert isinstance(graph.node[wide[0]].op, LayerNorm)
    assert [graph.node[name].op.kind for name in wide[1:]] == ["roll", "reshape", "permute", "reshape"]
    assert [type(graph.node[name].op) for name in narrow] == [Activation]
    assert steps["embed"].again == steps["head"].again == ()


def test_nothing_is_made_again_where_nobody_keeps_what_it_is_made_from(model):
    """No gradient passes the layer norm if nothing before it is trained."""
    graph = capture(model, data()[0])
    plan = UpdatePlan((ChannelSet("wide", "in", (0, 3)),))
    (step,) = (step for step in StepGraph.of(graph, plan).steps if step.node.layer == "wide")
    assert step.again == ()
    assert [kept.form for kept in step.kept] == ["channels"]


@pytest.mark.parametrize("index", [None, (0, 3, 7)])
def test_values(model, index):
    x, _ = data()
    graph = capture(model, x)
    step = prepare(model, None, everything(graph), graph, torch.float64)
    (call,) = (call for call in step.program._calls if call.step.node.layer == "wide")
    source = torch.randn(N, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    expected = source
    for node, weights in call.again:
        expected = FORWARD[node.op.kind](node, weights, [expected], N)
    chosen = None if index is None else torch.tensor(index)
    found = make_again(call.again, source, chosen, N)
    assert relative_error(found, expected if chosen is None else expected[..., chosen]) < FLOAT64_TOLERANCE


def sets(axis, **chosen):
    return tuple(ChannelSet(layer, axis, indices) for layer, indices in chosen.items())


PLANS = {
    "some features": (sets("in", embed=(1,), wide=(0, 3), narrow=(2, 9)), ()),
    "neurons": (sets("out", embed=(1,), wide=(0, 3), narrow=(2,)), ()),
    "all": (sets("in", embed=tuple(range(5)), wide=tuple(range(8)), narrow=tuple(range(12))), ("wide",)),
}


@pytest.mark.parametrize("name", PLANS)
def test_gradients_and_bytes(model, name):
    x, y = data()
    graph = capture(model, x)
    plan = UpdatePlan(*PLANS[name])
    expected = expected_gradients(graph, plan, dense_gradients(model, x, y))
    step = prepare(model, None, plan, graph, torch.float64)
    F.cross_entropy(step(x), y).backward()
    for key, parameter in step.live.items():
        assert relative_error(parameter.grad, expected[key]) < FLOAT64_TOLERANCE, key
    single = prepare(model.float(), None, plan, graph)
    kept = saved_by_layer(single, x.float(), y)
    assert kept == ledger(graph, plan, batch=N).by_layer
    # The layer norm keeps its input and GELU its own; the linear layers behind them keep nothing.
    assert {layer: nbytes for layer, nbytes in kept.items() if layer != "loss"} == {
        "norm": 4 * N * TOKENS * WIDTH,
        graph.node[graph.nodes[-1].name].layer: 4 * N * WIDTH,
        **{node.layer: 4 * N * TOKENS * 12 for node in graph.nodes if isinstance(node.op, Activation)},
    }


def test_what_is_made_again_takes_memory_only_when_it_is_read(model):
    """In the total ledger it is on the stack at one step, so that it never makes a plan dearer than keeping it did."""
    graph = capture(model.float(), data()[0].float())
    report = ledger(graph, UpdatePlan(*PLANS["some features"]))
    assert report.activation_elements == TOKENS * (1 + 2 + 2), "the papers' ledger counts it as always"
    assert report.by_layer.keys().isdisjoint({"wide", "narrow"})
