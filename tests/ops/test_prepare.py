"""The prepared module: whole networks, what stays with the user's module, layouts, number formats, misuse."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune import models
from kilotune.errors import PlanError, ShapeError
from kilotune.graph.capture import capture
from kilotune.graph.keeping import keep_all
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer, saved_bytes
from kilotune.ops.prepare import prepare
from kilotune.ops.slices import bias_name
from kilotune.policies.fit import plan as make_plan
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.dense import (
    FLOAT64_TOLERANCE,
    dense_gradients,
    everything,
    expected_gradients,
    overwrite_trained,
    relative_error,
)
from tests.oracles.networks import Geometry, batch
from tests.oracles.zoo import NETWORKS, build_network, captured_network, captured_published, input_shape

# PyTorch's own derivative of hard-sigmoid in float64 multiplies with one sixth rounded to float32, 3.0e-8 too much.
HARDSIGMOID_TOLERANCE = 1e-6
WITH_HARDSIGMOID = {"mobilenet_v3_small", "timm mobilenetv3_small_050"}
# Float32: the same sums in another order, 1e-7 each, through at most five layers.
FLOAT32_TOLERANCE = 2e-5
# Bfloat16 has 8 significant bits (0.4 %); errors of five layers add up, and masks flip near zero.
BFLOAT16_TOLERANCE = 0.1

SIZE = (7, 6)
GEOMETRY = Geometry(2, 3, 2, (3, 3), (1, 1), (1, 0, 2, 1), 1, True, True, "relu6", SIZE)
PLAN = UpdatePlan((ChannelSet("0", "in", (1,)), ChannelSet("4", "in", (0, 2, 5))), ("4",))


def every_third(graph):
    """Every third channel of every other layer, biases of the last five."""
    sets = [ChannelSet(layer.name, "in", tuple(range(0, layer.in_channels, 3))) for layer in graph.body[1::2]]
    return UpdatePlan(tuple(sets), tuple(layer.name for layer in graph.body[-5:] if layer.has_bias))


PLANS = {
    "frozen": lambda graph: UpdatePlan(classifier=False),
    "classifier": lambda graph: UpdatePlan(),
    "biases": lambda graph: UpdatePlan((), tuple(layer.name for layer in graph.body if layer.has_bias), False),
    "every third": every_third,
    "full": everything,
}


@pytest.fixture
def model():
    return GEOMETRY.build()


@pytest.fixture
def step(model):
    return prepare(model, torch.zeros(1, 2, *SIZE, dtype=torch.float64), PLAN, dtype=torch.float64)


def images(n=3, seed=0):
    return batch((2, *SIZE), n, 5, seed, torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_the_predicted_bytes(torchvision_models, name):
    pytest.importorskip("timm")
    model, graph = build_network(name), captured_network(name)
    for make in PLANS.values():
        plan = make(graph)
        step = prepare(model, None, plan, graph)
        x, y = batch(input_shape(name), 2, 10)
        report = ledger(graph, plan, batch=2)
        assert saved_by_layer(step, x, y) == report.by_layer
    for n in (1, 3):
        x, y = batch(input_shape(name), n, 10)
        assert saved_bytes(step, x, y) == ledger(graph, plan, batch=n).saved_bytes


FIXED = ["int8", "int4", "prune:0.1", "pattern:1", "filter:2", "asi:4", "lance:4"]
BY_DATA = ["svd:0.8:0.3", "hosvd:0.8:0.2"]


@pytest.mark.parametrize("way", [*FIXED, *BY_DATA])
def test_compressed_inputs_keep_the_predicted_bytes(torchvision_models, way):
    """Exactly where sizes are fixed, the cap at most where ranks depend on the data; on all layers and on chosen channels."""
    name = "mobilenet_v2"
    model, graph = build_network(name), captured_network(name)
    for full in (everything(graph), every_third(graph)):
        named = {chosen.layer for chosen in full.channels}
        plan = replace(full, keeps=tuple(keep for keep in keep_all(graph, way) if keep.layer in named))
        step = prepare(model, None, plan, graph)
        for n in (1, 3):
            x, y = batch(input_shape(name), n, 10)
            predicted, measured = ledger(graph, plan, batch=n).by_layer, saved_by_layer(step, x, y)
            if way in FIXED:
                assert measured == predicted
            else:
                assert measured.keys() == predicted.keys()
                assert all(measured[layer] <= nbytes for layer, nbytes in predicted.items())
        F.cross_entropy(step(x), y).backward()
        assert all(parameter.grad.isfinite().all() for parameter in step.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_networks(torchvision_models, name):
    pytest.importorskip("timm")
    model, graph = build_network(name).double(), captured_network(name)
    plan = every_third(graph)
    x, y = batch(input_shape(name), 2, 10, dtype=torch.float64)
    expected = expected_gradients(graph, plan, dense_gradients(model, x, y))
    step = prepare(model, None, plan, graph, dtype=torch.float64).eval()
    logits = step(x)
    assert relative_error(logits.detach(), model(x).detach()) < FLOAT64_TOLERANCE
    F.cross_entropy(logits, y).backward()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0
    tolerance = HARDSIGMOID_TOLERANCE if name in WITH_HARDSIGMOID else FLOAT64_TOLERANCE
    for key, parameter in step.live.items():
        assert float((parameter.grad - expected[key]).abs().max()) < tolerance * largest, key


@pytest.mark.parametrize("name", ["mobilenet_v2_w0.35_nohead", "mobilenet_v2_w0.35_mix"])
def test_fifteen_times_fewer_bytes_than_pytorch(name):
    """Sparse Update "99kb" at batch 1, 128x128, against PyTorch that trains the same layers."""
    model, graph = models.create(name, classes=10), captured_published(name)
    plan = make_plan(graph, "sparse_update", "10MiB", scheme="99kb")
    x, y = batch((3, 128, 128), 1, 10)
    ours = saved_bytes(prepare(model, None, plan, graph), x, y)
    assert ours == ledger(graph, plan).saved_bytes
    parameters = dict(model.named_parameters())
    ops = {layer.name: graph.node[layer.node].op for layer in graph.layers}
    trained = {ops[chosen.layer].weight for chosen in plan.channels} | {bias_name(ops[layer]) for layer in plan.biases}
    trained |= {f"{graph.classifier}.weight", f"{graph.classifier}.bias"}
    for key, parameter in parameters.items():
        parameter.requires_grad_(key in trained)
    stock = saved_bytes(model.train(), x, y)
    print(f"{name}: kept by kilotune {ours:,} B, by PyTorch {stock:,} B, ratio {stock / ours:.1f}")
    assert stock >= 15 * ours


def test_parameters_are_the_live_ones_only(model, step):
    shapes = {"0.weight": (1, 6, 1, 1), "4.weight": (3, 2, 3, 3), "4.bias": (4,), "10.weight": (3, 5), "10.bias": (5,)}
    assert {name: tuple(p.shape) for name, p in step.live.items()} == shapes
    assert {id(p) for p in step.parameters()} == {id(p) for p in step.live.values()}
    assert not {id(p) for p in step.parameters()} & {id(p) for p in model.parameters()}
    assert step.model is model


def test_nothing_is_trained_that_is_not_in_the_plan_in_any_network(torchvision_models):
    name = "mobilenet_v3_small"
    model, graph = build_network(name), captured_network(name)
    plan, before = every_third(graph), {key: t.clone() for key, t in model.state_dict().items()}
    step = prepare(model, None, plan, graph)
    optimizer = torch.optim.AdamW(step.parameters(), lr=0.01)
    for seed in range(2):
        x, y = batch(input_shape(name), 2, 10, seed)
        optimizer.zero_grad()
        F.cross_entropy(step(x), y).backward()
        optimizer.step()
    assert step.restore() is model
    assert overwrite_trained(graph, plan, before, model.state_dict()) > 100
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_restore_without_training_is_bit_for_bit(model, step):
    before = {name: tensor.clone() for name, tensor in GEOMETRY.build().state_dict().items()}
    step(images()[0])
    step.restore()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not list(step.parameters())


def test_the_model_computes_what_was_trained_after_sync(model, step):
    x, y = images()
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    F.cross_entropy(step(x), y).backward()
    optimizer.step()
    with torch.no_grad():
        trained, untouched = step(x), model(x)
        step.sync()
        assert relative_error(trained, untouched) > 1e-3
        assert relative_error(model(x), trained) < FLOAT64_TOLERANCE


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_model_stays_as_it_is_until_sync(channels_last):
    """Also where there is no batch norm to be folded in, so that the user's own tensors could run."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(20, 3)).eval()
    x = torch.randn(2, 2, 4, 4)
    plan = UpdatePlan((ChannelSet("0", "in", (1,)), ChannelSet("2", "in", (0, 3))), biases=("2",))
    step = prepare(plain, x, plan, channels_last=channels_last)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    with torch.no_grad():
        for parameter in step.parameters():
            parameter += 1
    tuned = step(x)
    assert all(torch.equal(before[name], tensor) for name, tensor in plain.state_dict().items())
    step.sync()
    torch.testing.assert_close(plain(x), tuned)
    step.replan(UpdatePlan(classifier=False))
    running = {node: weights for node, weights in step._weights.items() if weights.weight is not None}
    owners = {graph_layer.node: graph_layer.name for graph_layer in step.graph.layers}
    shared = [
        weights.weight.data_ptr() == plain.get_submodule(owners[n]).weight.data_ptr() for n, weights in running.items()
    ]
    assert shared == [not channels_last, True, True]  # The copies are given up again.


def test_its_state_is_that_of_the_users_module(model, step):
    names = set(model.state_dict())
    with torch.no_grad():
        for parameter in step.parameters():
            parameter += 1
    state = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    assert set(state) == names
    x, _ = images()
    tuned = step(x)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter += 1
    assert not torch.equal(step(x), tuned)
    step.load_state_dict(state)
    assert torch.equal(step(x), tuned)
    with pytest.raises(RuntimeError, match=r"Missing key.*0.weight"):
        step.load_state_dict({name: tensor for name, tensor in state.items() if name != "0.weight"})


def test_a_new_step_on_the_trained_model_continues_bit_for_bit(model, step):
    x, y = images()
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    F.cross_entropy(step(x), y).backward()
    optimizer.step()
    step.sync()
    again = prepare(model, None, PLAN, step.graph, dtype=torch.float64)
    assert torch.equal(again(x), step(x))


def test_gradients_add_up_over_micro_batches(step):
    x, y = images(4)
    F.cross_entropy(step(x), y).backward()
    whole = {name: p.grad.clone() for name, p in step.live.items()}
    step.zero_grad()
    for place in range(4):
        (F.cross_entropy(step(x[place : place + 1]), y[place : place + 1]) / 4).backward()
    for name, parameter in step.live.items():
        assert relative_error(parameter.grad, whole[name]) < FLOAT64_TOLERANCE, name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_where_no_gradient_is_wanted(step, mode):
    with mode():
        logits = step(images()[0])
    assert logits.grad_fn is None
    assert not logits.requires_grad


def test_frozen_plan_keeps_nothing(step):
    step.replan(UpdatePlan(classifier=False))
    assert step(images()[0]).grad_fn is None
    assert saved_bytes(step, *images()) == ledger(step.graph, UpdatePlan(classifier=False), batch=3).saved_bytes == 0


def test_optimizer_between_forward_and_backward_is_an_error(step):
    x, y = images()
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    F.cross_entropy(step(x), y).backward()
    loss = F.cross_entropy(step(x), y)
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        loss.backward()


def test_a_graph_of_another_model(model):
    example = torch.zeros(1, 2, *SIZE, dtype=torch.float64)
    graph = capture(model, example)
    with pytest.raises(PlanError, match=r"captured from another model: this one has no 0\.weight"):
        prepare(nn.ModuleDict({"other": model}), example, PLAN, graph)


def test_wrong_input_size(step):
    with pytest.raises(ShapeError, match=r"captured for inputs \(n, 2x7x6\), got \(1, 2, 8, 6\)"):
        step(torch.zeros(1, 2, 8, 6, dtype=torch.float64))


def test_impossible_plans(model):
    graph = capture(model, torch.zeros(1, 2, *SIZE, dtype=torch.float64))
    wrong = {
        "no layer 'missing'": UpdatePlan((ChannelSet("missing", "in", (0,)),)),
        "asks for channel 6": UpdatePlan((ChannelSet("4", "in", (6,)),)),
        "asks for channel 4": UpdatePlan((ChannelSet("4", "out", (4,)),)),
        "neither a bias": UpdatePlan((), ("7",)),
        "is the classifier": UpdatePlan((ChannelSet("10", "in", (0,)),)),
        "not in its pool": UpdatePlan((ChannelSet("4", "in", (0,)),), pool=("7",)),
    }
    for message, plan in wrong.items():
        with pytest.raises(PlanError, match=message):
            prepare(model, None, plan, graph)
        with pytest.raises(PlanError, match=message):
            ledger(graph, plan)


@pytest.mark.parametrize(
    ("dtype", "channels_last", "tolerance"),
    [
        (torch.float32, False, FLOAT32_TOLERANCE),
        (torch.float32, True, FLOAT32_TOLERANCE),
        (torch.bfloat16, False, BFLOAT16_TOLERANCE),
        (torch.bfloat16, True, BFLOAT16_TOLERANCE),
    ],
)
def test_layouts_and_number_formats(dtype, channels_last, tolerance):
    x, y = images(4)
    reference = prepare(GEOMETRY.build(), torch.zeros(1, 2, *SIZE, dtype=torch.float64), PLAN, dtype=torch.float64)
    F.cross_entropy(reference(x), y).backward()
    step = prepare(GEOMETRY.build().float(), None, PLAN, reference.graph, dtype, channels_last)
    logits = step(x.float())
    assert logits.dtype == torch.float32, "the loss is computed in float32"
    F.cross_entropy(logits, y).backward()
    for name, parameter in step.live.items():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert relative_error(parameter.grad.double(), reference.live[name].grad) < tolerance, name


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_channels_last_networks(torchvision_models, name):
    model, graph = build_network(name).double(), captured_network(name)
    plan = every_third(graph)
    x, y = batch(input_shape(name), 2, 10, dtype=torch.float64)
    gradients = []
    for channels_last in (False, True):
        step = prepare(model, None, plan, graph, torch.float64, channels_last).eval()
        F.cross_entropy(step(x), y).backward()
        gradients.append({key: parameter.grad for key, parameter in step.live.items()})
    for key, gradient in gradients[0].items():
        assert relative_error(gradients[1][key], gradient) < FLOAT64_TOLERANCE, key


def test_channels_last_keeps_the_same_bytes(torchvision_models):
    graph = captured_network("mobilenet_v2")
    plan = every_third(graph)
    step = prepare(build_network("mobilenet_v2"), None, plan, graph, channels_last=True)
    assert saved_by_layer(step, *batch((3, 32, 32), 2, 10)) == ledger(graph, plan, batch=2).by_layer


def test_value_kept_in_channels_last_and_read_flat():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Sigmoid(), nn.Flatten(), nn.Linear(3 * 42, 5))
    x, y = batch((2, *SIZE), 2, 5)
    step = prepare(model, x, everything(capture(model, x)), channels_last=True)
    F.cross_entropy(step(x), y).backward()
    expected = dense_gradients(model, x, y)["3.weight"]
    assert relative_error(step.live["3.weight"].grad, expected.T) < FLOAT32_TOLERANCE


def test_dropout_is_random_while_training_and_absent_in_evaluation():
    model = nn.Sequential(nn.Flatten(), nn.Linear(84, 200), nn.Dropout(0.5), nn.Linear(200, 5))
    x, y = batch((2, *SIZE), 1, 5)
    step = prepare(model, x, UpdatePlan((ChannelSet("1", "in", (0,)),), ("1",)))
    assert not torch.equal(step(x), step(x))
    step.eval()
    assert torch.equal(step(x), step(x))
    step.train()
    F.cross_entropy(step(x), y).backward()
    share = float((step.live["1.bias"].grad == 0).float().mean())
    assert 0.3 < share < 0.7, "about half of the neurons are dropped, and none of them learns"


def test_channel_norms(step):
    F.cross_entropy(step(images()[0]), images()[1]).backward()
    norms = step.channel_norms()
    assert norms.keys() == {"0", "4"}
    expected = torch.stack([g.norm() for g in step.live["4.weight"].grad])
    assert relative_error(norms["4"], expected) < FLOAT64_TOLERANCE


def test_the_image_is_kept_as_it_came_in_any_layout():
    """A converted copy of the image is made again for backward, not kept: bytes stay those of the ledger."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    x, y = torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    graph = capture(model, x)
    plan = UpdatePlan((ChannelSet("0", "in", (0, 2)),))
    step = prepare(model, x, plan, graph, channels_last=True)
    assert saved_bytes(step, x, y) == ledger(graph, plan, batch=2).saved_bytes


def test_changing_the_mode_between_forward_and_backward_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    step = prepare(model, torch.zeros(1, 4), UpdatePlan((ChannelSet("0", "in", (1,)),)))
    logits = step.train()(torch.ones(3, 4))
    step.eval()
    with pytest.raises(RuntimeError, match="between forward and backward"):
        logits.sum().backward()
