"""An exported project against PyTorch: every activation, gradient and updated weight, then a hundred steps of loss."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from kilotune import models
from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.host import FAST, PROBE, HostProject, compile_library
from kilotune.codegen.manifest import Manifest
from kilotune.codegen.numbers import store
from kilotune.codegen.program import Place, Program
from kilotune.codegen.values import Values
from kilotune.deploy.describe import describe, lay_out
from kilotune.deploy.export import Reference
from kilotune.deploy.noise import round_as_device
from kilotune.deploy.reference import reference_step
from kilotune.errors import ExportError
from kilotune.graph import node as ops
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory.accounting import Accounting
from kilotune.ops.prepare import Step
from kilotune.ops.slices import norm_scale
from kilotune.update_plan import UpdatePlan

# Both sides add the same products in float32 in another order, through up to a hundred layers; where a value is within
# rounding of the edge of a ReLU, one element of a gradient comes or goes. Measured on four networks: below 1e-5.
VALUE_TOLERANCE = 1e-3
# The difference grows with every step that starts from the last one's weights.
LOSS_TOLERANCE = {10: 1e-3, 100: 3e-2}

STEADY_RATE = 5e-4
"""Of the hundred steps, at most: at larger rates training on a few random images amplifies rounding without bound."""

FLOAT32_ROUNDING = 2.0**-23
N_STEPS = 100
_N_IMAGES = 8


class Difference(NamedTuple):
    """A value of the project and PyTorch's: distance relative to its norm, largest and mean distance in units of the last
    place of its largest element."""

    name: str
    relative: float
    max_ulp: float
    mean_ulp: float


@dataclass
class Verification:
    """What was compared. loss_torch, loss_c: over the same images."""

    compiler: str
    differences: list[Difference] = field(default_factory=list)
    loss_torch: list[float] = field(default_factory=list)
    loss_c: list[float] = field(default_factory=list)

    @property
    def first_divergence(self) -> Difference | None:
        """The first value, in the order of computation, that differs by more than rounding."""
        return next((one for one in self.differences if not one.relative <= VALUE_TOLERANCE), None)

    @property
    def losses_agree(self) -> bool:
        """Whether ten and a hundred steps have the same losses."""
        return all(agree for _, agree, _ in self.losses_apart)

    @property
    def losses_apart(self) -> list[tuple[int, bool, float]]:
        """Of ten and of a hundred steps: how many, whether they have the same losses, and the farthest two."""
        pairs = list(zip(self.loss_torch, self.loss_c, strict=True))
        return [
            (
                n,
                all(abs(a - b) <= limit * max(1.0, abs(a)) for a, b in pairs[:n]),
                max(abs(a - b) for a, b in pairs[:n]),
            )
            for n, limit in LOSS_TOLERANCE.items()
        ]

    @property
    def ok(self) -> bool:
        """Whether the project computes what PyTorch computes."""
        return self.first_divergence is None and self.losses_agree


@dataclass(eq=False)
class Case:
    """The network and plan of a folder, in PyTorch and as what its C was written from."""

    reference: Reference
    graph: Graph
    plan: UpdatePlan
    values: Values
    program: Program
    step: Step

    @classmethod
    def read(cls, folder: Path) -> "Case":
        """Raises ExportError, ModelError or WeightsError if the folder is incomplete."""
        reference = Reference.read(folder)
        if not reference.model:
            raise ExportError(f"{folder} was made from a model in Python; compare it there, with deploy.verify.compare")
        path = folder / "reference"
        model = models.load(reference.model, str(path / "weights.safetensors"), reference.classes).model
        return cls.of(model, reference, UpdatePlan.from_json((path / "plan.json").read_bytes()))

    @classmethod
    def of(cls, model: torch.nn.Module, reference: Reference, plan: UpdatePlan) -> "Case":
        """``model`` itself takes on the numbers that its weights have in flash."""
        example = torch.zeros(1, *reference.input)
        graph = without_dropout(capture(model, example))
        optimizer = "momentum" if reference.momentum else "sgd"
        accounting = Accounting(
            accumulate=reference.accumulate, optimizer=optimizer, streamed=reference.streamed, tiled=True
        )
        region = lay_out(graph, plan, accounting, reference.arena_bytes)
        values = describe(model, region, reference.weights_dtype, None, reference.mean, reference.std, reference.seed)
        program = decide(values, plan, reference.momentum)
        _store_in(model, values)
        step = Step(model, graph, plan, torch.float32, False)
        round_as_device(step, program.slices, reference.seed)
        return cls(reference, graph, plan, values, program, step)

    def images(self, n: int, draws: torch.Generator) -> tuple[torch.Tensor, np.ndarray]:
        """Random images (n, c, h, w) as PyTorch takes them, and as the project does."""
        shape = (n, *self.reference.input)
        if not self.program.image_is_bytes:
            numbers = torch.randn(shape, generator=draws)
            return numbers, numbers.numpy()
        taken = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
        table = torch.from_numpy(self.values.pixels)
        channels = [table[c % len(table)][taken[:, c].long()] for c in range(shape[1])]
        return torch.stack(channels, 1), taken.numpy()


def _store_in(model: torch.nn.Module, values: Values) -> None:
    """Give the model the weights that flash stands for, taken out of their norms again."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for node in values.graph.nodes:
        if values.dtype != "float32" and isinstance(node.op, ops.Conv2d | ops.Linear):
            numbers = torch.from_numpy(store(values.folded[node.name].weight, values.dtype).numbers)
            if node.op.norm is not None:
                scale = norm_scale(node.op.norm, {name: t.detach() for name, t in tensors.items()})
                numbers = numbers / scale.view(-1, *[1] * (numbers.dim() - 1))
            tensors[node.op.weight].data.copy_(numbers)


def verify(folder: Path, compiler: str = "gcc") -> Verification:
    """Compile the project of ``folder`` for this computer and compare it. Raises EmulatorError without a compiler."""
    case = Case.read(folder)
    with tempfile.TemporaryDirectory() as out:
        library = compile_library(folder / "src", Path(out), (*FAST, *PROBE), compiler)
        return compare(
            case,
            HostProject.of(library, case.program, Manifest.read(folder).store_bytes),
            compiler,
        )


def compare(case: Case, project: HostProject, compiler: str = "gcc", n_steps: int = N_STEPS) -> Verification:
    """One step value by value, then ``n_steps`` steps at a steady rate by their losses, on the same random images."""
    draws = torch.Generator().manual_seed(0)
    images, taken = case.images(_N_IMAGES, draws)
    labels = torch.randint(case.program.classes, (_N_IMAGES,), generator=draws)
    found = Verification(compiler)
    found.differences.extend(_one_step(case, project, images[:1], taken[0], labels[:1]))
    rule = case.reference
    optimizer = torch.optim.SGD(case.step.parameters(), lr=rule.learning_rate, momentum=rule.momentum)
    optimizer.step()
    project.apply()
    found.differences.extend(_trained(case, project))
    steady = min(rule.learning_rate, STEADY_RATE)
    project.set_learning_rate(steady)
    optimizer.param_groups[0]["lr"] = steady
    for place in range(n_steps):
        image, label = images[place % _N_IMAGES, None], labels[place % _N_IMAGES, None]
        optimizer.zero_grad()
        loss = F.cross_entropy(case.step(image), label)
        loss.backward()
        optimizer.step()
        found.loss_torch.append(loss.item())
        found.loss_c.append(project.train_step(taken[place % _N_IMAGES], int(label)))
        project.apply()
    return found


def difference(name: str, found: np.ndarray, expected: np.ndarray, rounding: float = 0.0) -> Difference:
    """How far two arrays of the same number of elements are apart; ``rounding``: error of ``expected`` that is no one's fault."""
    found, expected = found.astype(np.float64).reshape(-1), expected.astype(np.float64).reshape(-1)
    distance, norm = np.abs(found - expected), float(np.linalg.norm(expected))
    ulp = float(np.spacing(np.float32(np.abs(expected).max(initial=0) or 1.0)))
    relative = float(np.linalg.norm(distance)) / (norm + rounding / VALUE_TOLERANCE or 1.0)
    return Difference(name, relative, float(distance.max(initial=0)) / ulp, float(distance.mean()) / ulp)


def _one_step(
    case: Case, project: HostProject, image: torch.Tensor, taken: np.ndarray, label: torch.Tensor
) -> Iterator[Difference]:
    seen: dict[tuple[int, int], np.ndarray] = {}
    project.watch(lambda what, index, numbers: seen.__setitem__((what, index), numbers))
    loss_c = project.train_step(taken, int(label))
    project.watch(lambda what, index, numbers: None)
    values, loss = reference_step(case.step, image, label)
    nodes = case.graph.nodes
    for what, order in ((0, range(len(nodes))), (1, range(len(nodes) - 1, -1, -1))):
        for index in order:
            value = values[nodes[index].name]
            expected = value.detach() if what == 0 else value.grad
            if (what, index) in seen and expected is not None:
                title = f"{('activation', 'gradient')[what]} of {nodes[index].layer or nodes[index].name}"
                yield difference(title, seen[what, index], expected.numpy())
    yield difference("loss", np.array([loss_c]), np.array([loss]))
    F.cross_entropy(case.step(image), label).backward()
    if case.reference.accumulate:
        yield from _gradients(case, project)


def _gradients(case: Case, project: HostProject) -> Iterator[Difference]:
    for name, place, elements in _places(case, "gradient"):
        gradient = case.step.live[name].grad
        assert gradient is not None
        yield difference(f"gradient of {name}", project.floats(place.offset, elements), gradient.numpy())


def _places(case: Case, what: str) -> Iterator[tuple[str, Place, int]]:
    """(parameter, place, elements) of the values or gradients of everything trained."""
    table = next(item for item in case.program.structs if item.name == "kt_slices")
    for layer, row in zip(case.program.slices, table.rows, strict=True):
        place = row[{"value": 1, "gradient": 2}[what]]
        assert isinstance(place, Place)
        if row[5]:
            yield f"{layer}.weight", place, case.step.live[f"{layer}.weight"].numel()
    for name, trained in case.values.region.trained.items():
        place = getattr(trained, what)
        if name.endswith(".bias") and place is not None:
            yield name, place, trained.elements


def _trained(case: Case, project: HostProject) -> Iterator[Difference]:
    """What the weights have become: of slices the change, which PyTorch rounds as part of the weight, of biases the value."""
    before = {
        node.layer: case.values.stored(node).numbers for node in case.graph.nodes if node.name in case.values.layer_of
    }
    case.step.program.refresh()
    for name, place, elements in _places(case, "value"):
        layer, _, kind = name.rpartition(".")
        running = case.step._weights[case.graph.layer[layer].node]
        if kind == "bias":
            assert running.bias is not None
            expected, rounding = running.bias, 0.0
        else:
            assert running.weight is not None
            cut = case.step._live_weights[layer].slice.cut
            expected = cut(running.weight - torch.from_numpy(before[layer]))
            rounding = float(cut(running.weight).norm()) * FLOAT32_ROUNDING
        yield difference(f"updated {name}", project.floats(place.offset, elements), expected.numpy(), rounding)
