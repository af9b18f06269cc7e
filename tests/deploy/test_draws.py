"""Projects that draw on the device: the same channels as in PyTorch, the same losses, and the same bits after a restart."""

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kilotune.codegen.host import HostProject, compile_library
from kilotune.codegen.manifest import Manifest
from kilotune.deploy.export import Export
from kilotune.deploy.noise import round_as_device
from kilotune.errors import ExportError
from kilotune.graph.capture import capture
from kilotune.memory.accounting import Accounting
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.ops.prepare import prepare
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.train.recipe import Recipe
from kilotune.update_plan import Budget

POLICIES = ["medyate", "trady", "dgsu", "trady int8"]
INPUT, BUDGET, RATE, SEED = (3, 32, 32), "160KiB", 0.05, 3
N_DRAWS, N_UPDATES, N_SUMMED = 4, 2, 2
# Sums of a few thousand float32 products in another order, over some updates that each start from the last one's weights.
TOLERANCE = 1e-3


class Slice(ctypes.Structure):
    """``kt_slice``."""

    _fields_ = [
        ("index", ctypes.POINTER(ctypes.c_uint16)),
        *[(name, ctypes.c_void_p) for name in ("delta", "gradient", "velocity", "kept")],
        ("count", ctypes.c_uint16),
    ]


class Project(HostProject):
    """A project whose draws can be seen."""

    def drawn(self, layers: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        slices = (Slice * len(layers)).in_dll(self._c, "kt_slices")
        found = {layer: tuple(one.index[: one.count]) for layer, one in zip(layers, slices, strict=True)}
        return {layer: indices for layer, indices in found.items() if indices}

    def train(self, batch: list[tuple[np.ndarray, int]]) -> list[float]:
        losses = []
        for place, (image, label) in enumerate(batch, start=1):
            losses.append(self.train_step(image, label))
            if place % N_SUMMED == 0:
                self.apply()
        return losses


@pytest.fixture(scope="module", params=POLICIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported project, and beside it its library."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    out = tmp_path_factory.mktemp("draws") / request.param
    policy, keep = policy_of(out)
    recipe = Recipe.of(policy=policy, budget=BUDGET, input=INPUT, lr=RATE, seed=SEED, keep=keep)
    Export(pretrained_digitnet(), recipe).write(out)
    compile_library(out / "src", out / "built", ("-O1",))
    return out


def policy_of(folder: Path) -> tuple[str, str | None]:
    """The policy of a project, and how it keeps inputs."""
    policy, _, keep = folder.name.partition(" ")
    return policy, keep or None


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Callable[..., Project]:
    """Load the project as after power came on, with what the store holds, if it is given."""
    library, manifest = next((folder / "built").glob("libkilotune.*")), Manifest.read(folder)
    copies: list[Path] = []

    def load(cells: np.ndarray | None = None) -> Project:
        copies.append(tmp_path / f"{len(copies)}{library.suffix}")
        shutil.copy(library, copies[-1])
        return Project(copies[-1], 3 * 32 * 32, manifest.n_classes, manifest.store_bytes, cells)

    return load


def samples(seed: int) -> list[tuple[np.ndarray, int]]:
    draws = np.random.default_rng(seed)
    return [
        (draws.standard_normal(INPUT).astype(np.float32), int(draws.integers(10))) for _ in range(N_UPDATES * N_SUMMED)
    ]


def test_channels_losses_and_norms_are_those_of_pytorch(start, folder):
    project, model, example = start(), pretrained_digitnet(), torch.zeros(1, *INPUT)
    graph = capture(model, example)
    policy, keep = policy_of(folder)
    selector = Selector.fit(graph, make(policy), Budget.parse(BUDGET), SEED, Accounting(tiled=True), keep=keep)
    plan = selector.draw()
    step = prepare(model, example, plan, graph)
    round_as_device(step, selector.layout.pool, SEED)
    for number in range(N_DRAWS):
        assert project.drawn(selector.layout.pool) == {one.layer: one.indices for one in plan.channels}, (
            f"draw {number}"
        )
        losses, norms = _train(step, samples(number))
        assert project.train(samples(number)) == pytest.approx(losses, rel=TOLERANCE)
        project.redraw()
        if folder.name == "medyate":
            norms = _norms_of_device(project, folder, selector, plan, norms)
        selector.observe(plan, norms)
        plan = selector.draw()
        step.replan(plan)


def _train(step, batch) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses, and the mean norms of the updates."""
    optimizer, losses, norms = torch.optim.SGD(step.parameters(), lr=RATE), [], {}
    for first in range(0, len(batch), N_SUMMED):
        optimizer.zero_grad()
        for image, label in batch[first : first + N_SUMMED]:
            loss = F.cross_entropy(step(torch.from_numpy(image)[None]), torch.tensor([label]))
            (loss / N_SUMMED).backward()
            losses.append(loss.item())
        for layer, norm in step.channel_norms().items():
            norms[layer] = norms.get(layer, 0) + norm.numpy() / N_UPDATES
        optimizer.step()
    return losses, norms


def _norms_of_device(project, folder, selector, plan, expected) -> dict[str, np.ndarray]:
    """What the device measured: PyTorch's but for rounding; the next draw is compared for exactly these."""
    table, pool = selector.fitting.task.table, selector.layout.pool
    sizes = [int(table.channels[table.row(layer)]) for layer in pool]
    n = sum(sizes)
    stored = np.split(project.floats(Manifest.read(folder).arena_bytes - 4 * n, n), np.cumsum(sizes)[:-1])
    by_layer = dict(zip(pool, stored, strict=True))
    found = {one.layer: by_layer[one.layer][list(one.indices)] for one in plan.channels}
    for layer, norms in found.items():
        assert norms == pytest.approx(expected[layer], rel=TOLERANCE, abs=TOLERANCE * float(expected[layer].max()))
    return found


def test_a_restart_changes_no_bit(start):
    """Saved in the middle of a draw, with gradients summed but not applied; then power is cut."""
    whole = start()
    for number in range(N_DRAWS):
        whole.train(samples(number))
        whole.redraw()
    broken = start()
    for number in range(N_DRAWS):
        image, label = samples(number)[0]
        broken.train_step(image, label)
        broken.save()
        cells = broken.medium.cells.copy()
        broken.train(samples(99))
        broken = start(cells)
        rest = samples(number)[1:]
        broken.train_step(*rest[0])
        broken.apply()
        broken.train(rest[1:])
        broken.redraw()
    assert broken.weights_hash() == whole.weights_hash()
    image, _ = samples(0)[0]
    assert np.array_equal(broken.infer(image), whole.infer(image))


def test_after_power_loss_training_goes_on_from_the_last_redraw(start):
    project = start()
    project.train(samples(0))
    project.redraw()
    committed, before = project.medium.cells.copy(), project.infer(samples(0)[0][0])
    project.train(samples(1))
    assert not np.array_equal(project.infer(samples(0)[0][0]), before)
    assert np.array_equal(start(committed).infer(samples(0)[0][0]), before)


def test_a_corrupt_store_is_refused(start):
    project = start()
    cells = project.medium.cells.copy()
    cells[100] ^= 1
    with pytest.raises(ExportError, match="the project returned -3"):
        start(cells)
