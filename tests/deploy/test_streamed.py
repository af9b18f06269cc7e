"""Projects with streamed blocks: what PyTorch computes, and the bits of the project that runs plainly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kilotune import models
from kilotune.codegen.decide import without_dropout
from kilotune.deploy.describe import pixel_values
from kilotune.deploy.export import Reference
from kilotune.deploy.verify import Case, compare
from kilotune.errors import ExportError
from kilotune.graph.capture import capture
from kilotune.graph.keeping import keep_all
from kilotune.prune.patterns import prune_to_patterns
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.deploy.conftest import BlockNet
from tests.oracles.networks import cut_to_patterns, randomise

# Model, input, learning rate: as in test_verify, changes grow with depth.
NETWORKS = {
    "user": (BlockNet, (3, 32, 32), 1e-4),
    "mobilenet_v2": (lambda: models.create("mobilenet_v2_w0.35_nohead", classes=4), (3, 48, 48), 1e-7),
}
PATTERNED = {"none": lambda model: None, "depthwise": prune_to_patterns, "all": cut_to_patterns}
OPTIONS = [
    ("user", {"front": 2}),
    ("user", {"front": 3, "momentum": 0.9, "dtype": "int8"}),
    ("user", {"front": 8, "accumulate": True, "dtype": "float16"}),
    ("user", {"front": 2, "patterned": "depthwise"}),
    ("user", {"front": 3, "patterned": "all", "momentum": 0.9, "accumulate": True, "dtype": "int8"}),
    ("user", {"front": 3, "keep": {"fourth.0": "int8", "separable.0": "int4", "separable.2": "int4"}}),
    ("mobilenet_v2", {"front": 9}),
    ("mobilenet_v2", {"front": 6, "accumulate": True, "momentum": 0.9, "dtype": "int8"}),
]


def make_case(
    name, front, dtype="float32", momentum=0.0, accumulate=False, streamed=True, every=3, patterned="none", keep=None
):
    """A case that trains every third input channel from layer ``front`` of the body on, and every second bias."""
    torch.manual_seed(0)
    build, shape, rate = NETWORKS[name]
    model = randomise(build().eval())
    PATTERNED[patterned](model)
    graph = without_dropout(capture(model, torch.zeros(1, *shape)))
    head = model.get_parameter(graph.weighted(graph.classifier).weight)
    head.data /= model(torch.randn(8, *shape)).abs().max()
    body = graph.body[front:]
    sets = tuple(ChannelSet(layer.name, "in", tuple(range(0, layer.in_channels, every))) for layer in body)
    biases = tuple(layer.name for layer in body[::2] if layer.has_bias)
    reference = Reference(name, 4, shape, dtype, rate, momentum, accumulate, None, streamed, (0.5,), (0.25,))
    return Case.of(model, reference, UpdatePlan(sets, biases, keeps=keep_all(graph, keep)))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_projects_compute_what_pytorch_computes(build, name, options):
    case = make_case(name, **options)
    timeline = case.values.region.layout.timeline
    assert timeline.forward
    assert timeline.backward
    found = compare(case, build(case), n_steps=10)
    assert found.first_divergence is None
    assert found.losses_agree


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_the_bits_of_the_plain_project(build, tmp_path, name, options):
    case = make_case(name, **options)
    images, taken = case.images(4, torch.Generator().manual_seed(1))
    found = train(build(case), taken)
    plain = make_case(name, **options, streamed=False)
    assert plain.program.arena_bytes > case.program.arena_bytes
    assert train(build(plain), images.numpy()) == found


def train(project, images) -> tuple[list[float], int]:
    losses = []
    for label, image in enumerate(images):
        losses.append(project.train_step(image, label))
        if label % 2:
            project.apply()
    return losses, project.weights_hash()


def test_bytes_stand_for_what_training_saw():
    """Pixels of three channels, each with its own normalisation."""
    case = make_case("user", 3)
    table = pixel_values((0.1, 0.2, 0.3), (0.5, 0.25, 1.0))
    case = replace(case, values=replace(case.values, pixels=table))
    images, taken = case.images(1, torch.Generator().manual_seed(0))
    expected = (torch.from_numpy(taken).float() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1)) / torch.tensor(
        [0.5, 0.25, 1.0]
    ).view(-1, 1, 1)
    assert torch.equal(images, expected)


def test_numbers_are_not_bytes(build):
    project = build(make_case("user", 3))
    with pytest.raises(ExportError, match="takes images of bytes"):
        project.infer(np.zeros((3, 32, 32), np.float32))
