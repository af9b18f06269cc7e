"""C projects against PyTorch; and that a wrong project is noticed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from kilotune import models
from kilotune.codegen.decide import without_dropout
from kilotune.deploy.export import Reference
from kilotune.deploy.verify import VALUE_TOLERANCE, Case, compare, difference
from kilotune.errors import ExportError
from kilotune.graph.capture import capture
from kilotune.graph.keeping import keep_all
from kilotune.update_plan import ChannelSet, Keep, UpdatePlan
from tests.deploy.conftest import SqueezeNet, TinyVit, Windows
from tests.oracles.networks import cut_to_patterns, randomise

# Model, input, learning rate: deep networks with random weights amplify every change, and every rounding, a thousandfold.
NETWORKS = {
    "mcunet": (lambda: models.create("mcunet_in1", classes=4), (3, 48, 48), 1e-7),
    "mobilenet_v2": (lambda: models.create("mobilenet_v2_w0.35", classes=4), (3, 32, 32), 1e-5),
    "user": (SqueezeNet, (3, 16, 16), 1e-2),
    "vit": (TinyVit, (3, 16, 16), 1e-2),
    "windows": (Windows, (3, 16, 16), 1e-2),
}

PATTERNS = {"depth.0": "pattern:1", "down.0": "pattern:2", "body.0": "pattern:3", "head.1": "prune:0.2"}
FILTERS = {
    "depth.0": "filter:2",
    "branch.0": "filter:4",
    "down.0": "filter:2",
    "shortcut": "filter:7",
    "body.0": "filter:2",
}


def make_case(
    name, dtype="float32", momentum=0.0, accumulate=True, axes=("in",), patterned=False, keep=None, streamed=False
):
    """A case that trains every third input channel of every layer (output neuron, if ``axes`` says so for it), and the biases of
    the second half."""
    torch.manual_seed(0)
    build, shape, rate = NETWORKS[name]
    model = randomise(build().eval())
    model = cut_to_patterns(model) if patterned else model
    graph = without_dropout(capture(model, torch.zeros(1, *shape)))
    head = model.get_parameter(graph.weighted(graph.classifier).weight)
    head.data /= model(torch.randn(8, *shape)).abs().max()  # logits of about 1: a training that does not explode
    sets = tuple(every_third(layer, axes[place % len(axes)]) for place, layer in enumerate(graph.body))
    biases = tuple(layer.name for layer in graph.body[len(graph.body) // 2 :] if layer.has_bias)
    reference = Reference(name, 4, shape, dtype, rate, momentum, accumulate, None, streamed)
    return Case.of(model, reference, UpdatePlan(sets, biases, keeps=keep_all(graph, keep)))


def every_third(layer, axis):
    return ChannelSet(layer.name, axis, tuple(range(0, layer.in_channels if axis == "in" else layer.out_channels, 3)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("user", {}),
        ("user", {"keep": "int8"}),
        ("user", {"keep": "int4", "accumulate": False, "momentum": 0.9}),
        ("user", {"keep": "prune:0.2", "accumulate": False}),
        ("user", {"keep": FILTERS}),
        ("mobilenet_v2", {"keep": "filter:2", "accumulate": False, "dtype": "int8"}),
        ("user", {"keep": PATTERNS, "momentum": 0.9}),
        ("vit", {"keep": "int8", "accumulate": False}),
        ("mobilenet_v2", {"keep": "int8"}),
        ("mcunet", {"keep": "int4", "accumulate": False}),
        ("user", {"axes": ("out",), "momentum": 0.9}),
        ("user", {"axes": ("in", "out"), "dtype": "int8", "accumulate": False}),
        ("user", {"dtype": "float16", "momentum": 0.9}),
        ("user", {"dtype": "int8", "accumulate": False}),
        ("vit", {}),
        ("vit", {"axes": ("in", "out"), "accumulate": False, "momentum": 0.9}),
        ("windows", {"dtype": "int8", "accumulate": False}),
        ("windows", {"axes": ("out",)}),
        ("mcunet", {"accumulate": False}),
        ("mobilenet_v2", {"dtype": "int8"}),
        ("user", {"patterned": True}),
        ("user", {"patterned": True, "dtype": "int8", "momentum": 0.9, "accumulate": False}),
        ("user", {"patterned": True, "dtype": "float16", "axes": ("out", "in")}),
        ("mcunet", {"patterned": True, "accumulate": False}),
    ],
    ids=str,
)
def test_projects_compute_what_pytorch_computes(build, name, options):
    found = compare(make_case(name, **options), build(make_case(name, **options)), n_steps=10)
    assert found.first_divergence is None
    assert found.losses_agree
    assert len(found.differences) > 2 * len(make_case(name, **options).graph.layers)


@pytest.mark.parametrize("accumulate", [True, False])
def test_a_classifier_keeps_its_input_as_it_is_told(build, accumulate):
    case = make_case("user", accumulate=accumulate, keep={"head.1": "int8", "head.4": "int4", "down.0": "int4"})
    found = compare(case, build(case), n_steps=10)
    assert found.first_divergence is None
    assert found.losses_agree


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"keep": {"down.0": "filter:2"}, "streamed": True, "accumulate": False},
            "down.0: with --streamed and --no-accumulate",
        ),
        ({"keep": "prune:0.2", "streamed": True, "accumulate": False}, "body.0, head.1: with --streamed"),
        ({"keep": "svd:0.8"}, r"a device keeps inputs as int8, .*, not as .*depth.0 \(svd:0.8:0.5\)"),
        (
            {"keep": "int8", "axes": ("in", "out")},
            "excite, .*: a device trains output neurons on inputs that are kept exactly",
        ),
    ],
    ids=str,
)
def test_what_a_device_does_not_keep(options, problem):
    with pytest.raises(ExportError, match=problem):
        make_case("user", **options)


def test_taps_that_are_apart_by_patches_are_not_filtered():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Flatten(), nn.Linear(1024, 4)
    )
    plan = UpdatePlan((ChannelSet("1", "in", (0, 2)),), keeps=(Keep("1", "filter:2"),))
    with pytest.raises(ExportError, match="1: a device filters gradients of kernels that do not reach beyond"):
        Case.of(model, Reference("user", 4, (3, 16, 16), "float32", 1e-2, 0.0, True), plan)


def test_gradients_of_several_samples_are_averaged(build):
    case = make_case("user")
    project = build(case)
    images, labels = torch.randn(3, 3, 16, 16), torch.tensor([0, 3, 1])
    for image, label in zip(images, labels, strict=True):
        project.train_step(image.numpy(), int(label))
    project.apply()
    torch.nn.functional.cross_entropy(case.step(images), labels).backward()
    with torch.no_grad():
        for parameter in case.step.parameters():
            parameter -= case.reference.learning_rate * parameter.grad
    expected = case.step(images).detach().numpy()
    found = np.stack([project.infer(image) for image in images.numpy()])
    assert difference("logits", found, expected).relative < VALUE_TOLERANCE


def test_what_was_saved_comes_back(build):
    """Of a project without draws: what is trained; and where there is no store, that is said."""
    project, image = build(make_case("user"), store_bytes=1 << 16), np.zeros((3, 16, 16), np.float32)
    with pytest.raises(ExportError, match="the project returned -2"):
        project.restore()
    hashes = []
    for save in (True, False):
        project.train_step(image, 1)
        project.apply()
        hashes.append(project.weights_hash())
        if save:
            project.save()
    assert hashes[0] != hashes[1]
    project.restore()
    assert project.weights_hash() == hashes[0]
    with pytest.raises(ExportError, match="the project returned -2"):
        build(make_case("user")).save()


def test_a_wrong_weight_is_found_where_it_is(build):
    case = make_case("user")
    weight = case.values.constants["weight1"].values
    wrong = replace(case.values.constants["weight1"], values=weight + np.float32(0.1))
    constants = tuple(wrong if one.name == "weight1" else one for one in case.program.constants)
    case = replace(case, program=replace(case.program, constants=constants))
    found = compare(case, build(case), n_steps=1)
    assert found.first_divergence is not None
    assert found.first_divergence.name == "activation of stem.0"
    assert not found.ok


def test_difference():
    same = difference("x", np.ones(3), np.ones(3))
    assert (same.relative, same.max_ulp) == (0, 0)
    one = difference("x", np.array([1 + 2**-23, 1.0]), np.array([1.0, 1.0]))
    assert one.max_ulp == 1
    assert one.relative == pytest.approx(2**-23 / 2**0.5)


def test_of_kernels_with_patterns_flash_and_ram_hold_the_taps(build):
    """As the ledger counts them, trained and frozen; a weight at another place is refused, which would be lost."""
    case, dense = make_case("user", patterned=True), make_case("user")
    layers = {layer.name: layer for layer in case.graph.layers}
    for node in case.graph.nodes:
        if layer := layers.get(node.layer):
            assert case.values.constants[f"weight{case.values.number[node.name]}"].values.size == layer.weight_elements
    assert layers["depth.0"].weight_elements == 8 * 9
    assert case.program.resident_bytes < dense.program.resident_bytes
    assert case.program.flash_bytes < dense.program.flash_bytes
    model = cut_to_patterns(randomise(SqueezeNet().eval()))
    model.get_parameter("depth.0.weight").data += 1.0
    with pytest.raises(ExportError, match=r"depth\.0: 128 weights beside the taps of their patterns are not zero"):
        Case.of(model, case.reference, case.plan)
