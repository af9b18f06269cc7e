"""Projects that draw on the device: the same channels as in PyTorch, the same losses, and the same bits after a restart."""

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune.codegen.host import FLAGS, HostProject, link
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
from tests.objects import Objects
from tests.oracles.networks import cut_to_patterns

PATTERNED = "_patterned"
# Name, as a folder has it -> policy, its options, and how inputs are kept.
POLICIES: dict[str, tuple[str, dict[str, object], str | None]] = {
    "medyate": ("medyate", {}, None),
    "random": ("random", {}, None),
    "trady": ("trady", {}, None),
    "trady_int8": ("trady", {}, "int8"),
    "dgsu": ("dgsu", {}, None),
    "dgsu_strided": ("dgsu", {"traversal": "strided", "turns": 3}, None),
}
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


def network(folder: Path) -> nn.Module:
    """What the project of a folder is made from: DigitNet, its kernels cut to patterns where that is said."""
    model = pretrained_digitnet()
    return cut_to_patterns(model) if folder.name.endswith(PATTERNED) else model


@pytest.fixture(scope="module", params=[*POLICIES, *(policy + PATTERNED for policy in POLICIES)])
def folder(request: pytest.FixtureRequest, objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported project, and beside it its library."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    out = tmp_path_factory.mktemp("draws") / request.param
    policy, options, keep = POLICIES[request.param.removesuffix(PATTERNED)]
    recipe = Recipe.of(policy=policy, options=options, budget=BUDGET, input=INPUT, lr=RATE, seed=SEED, keep=keep)
    Export(network(out), recipe).write(out)
    (out / "built").mkdir()
    link(
        objects(sorted((out / "src").glob("*.c")), out / "src", "gcc", *FLAGS, "-O1", "-fPIC"), out / "built", ("-O1",)
    )
    return out


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
    project, model, example = start(), network(folder), torch.zeros(1, *INPUT)
    graph = capture(model, example)
    policy, options, keep = POLICIES[folder.name.removesuffix(PATTERNED)]
    accounting = Accounting(tiled=True)
    selector = Selector.fit(graph, make(policy, **options), Budget.parse(BUDGET), SEED, accounting, keep=keep)
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
        if folder.name.startswith("medyate"):
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


def test_what_was_saved_comes_back(start):
    project = start()
    project.train(samples(0))
    project.save()
    saved = project.weights_hash()
    project.train(samples(1))
    assert project.weights_hash() != saved
    project.restore()
    assert project.weights_hash() == saved


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
