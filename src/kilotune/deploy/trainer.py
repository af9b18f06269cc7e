"""The C library as a trainer on the CPU: it computes losses and gradients, PyTorch's optimiser and everything around stay."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.host import HostProject, compile_objects, link
from kilotune.codegen.project import RUNTIME, write_sources
from kilotune.deploy.describe import describe, lay_out
from kilotune.errors import RunError
from kilotune.graph.node import Dropout
from kilotune.memory.accounting import Accounting
from kilotune.ops.prepare import Step
from kilotune.ops.slices import LiveWeight
from kilotune.train.feed import Source
from kilotune.train.folder import RunFolder
from kilotune.train.loop import FineTuner
from kilotune.train.optim import ledger_name
from kilotune.train.recipe import Recipe
from kilotune.train.run import Tuners
from kilotune.train.stepping import Batch, Stepper
from kilotune.update_plan import UpdatePlan

logger = logging.getLogger(__name__)


class CFineTuner(FineTuner):
    """A FineTuner whose losses and gradients come from the exported C, one image after another, and without dropout.

    Raises RunError for what the C cannot do: other devices and number formats.
    """

    backend = "c"

    def _prepare(self) -> None:
        super()._prepare()
        recipe = self.recipe
        if recipe.precision != "float32" or self.device.type != "cpu" or recipe.accumulate != 1:
            raise RunError(
                f"--backend c trains in float32 on the CPU, without micro-batches; asked was {recipe.precision} on {self.device} "
                f"with {recipe.accumulate} micro-batches a step; leave the backend out"
            )
        if any(isinstance(node.op, Dropout) and node.op.p for node in self.graph.nodes):
            logger.warning("--backend c trains without dropout, as a device does")
        looks, draws = self.selection.observes == "norms", self.selection.draws_again
        self._stepper = self._c_stepper = CStepper(self.step, recipe, self.device, looks, draws)

    def _begin(self, val: Source, folder: RunFolder | None) -> None:
        """Compiles first: where that is refused nothing is written, and no epoch takes its time."""
        self._c_stepper.compile(self.recipe.batch_size)
        super()._begin(val, folder)


TUNERS: Tuners = {tuner.backend: tuner for tuner in (FineTuner, CFineTuner)}


class CStepper(Stepper):
    """A Stepper that lets a C project compute the gradient.

    The project is compiled for the layers that draws may train, as the weights of PyTorch's program, which are brought to it
    before each step. A draw only says which channels are trained; layers that are trained whole, where nothing is drawn again
    (draws), are the C's own. A step of plain SGD on one image is all in C, and ``settle`` brings what was trained back. looks:
    whether somebody looks at gradients; where nobody does, each is applied as soon as it is there.
    """

    def __init__(
        self, step: torch.nn.Module, recipe: Recipe, device: torch.device, looks: bool = True, draws: bool = True
    ):
        super().__init__(step, recipe, device)
        assert isinstance(step, Step)
        self._c_step: Step = step
        self._seed = recipe.seed
        self._draws = draws
        self._plan: UpdatePlan | None = None
        self._layout: tuple[object, ...] | None = None
        self._looks = looks
        self._is_in_c = ledger_name(recipe) == "sgd" and not recipe.weight_decay
        self._is_ahead = False

    def compile(self, batch_size: int) -> None:
        """Make the project for steps of so many images, which others would have to wait for; raises as ``CFineTuner``."""
        self._prepare(accumulate=self._looks or not self._is_in_c or batch_size > 1)

    def train(self, micro_batches: Sequence[Batch], learning_rate: float, look: Callable[[], None]) -> torch.Tensor:
        """One step; the loss."""
        # A project sums gradients or does not: once a step had several images, it sums for good.
        self._is_in_c = self._is_in_c and sum(len(y) for _, y in micro_batches) == 1
        if not self._is_in_c:
            return super().train(micro_batches, learning_rate, look)
        self._prepare(accumulate=self._looks)
        if not self._is_ahead:
            self._bring_values()
            self._is_ahead = True
        self._project.set_learning_rate(learning_rate)
        self._round_anew()
        [(image, label)] = _images(micro_batches)
        loss = self._project.train_step(image, label)
        look()
        self._project.apply()
        return torch.tensor(loss)

    def settle(self) -> None:
        """Bring what the C trained to PyTorch's parameters."""
        if self._is_ahead:
            for live, ours in self._values:
                live.unfold(ours)
        self._is_ahead = False

    def gradient(self, micro_batches: Sequence[Batch]) -> torch.Tensor:
        """Leave the gradient of the mean loss over all images in ``.grad``, where the C summed it; that loss."""
        self.settle()
        self._prepare(accumulate=True)
        self._bring_values()
        self._round_anew()
        images = _images(micro_batches)
        losses = [self._project.train_step(image, label) for image, label in images]
        if len(images) > 1:
            torch._foreach_div_(self._gradients, len(images))
        return torch.tensor(losses).mean()

    def _round_anew(self) -> None:
        """Have inputs rounded with numbers that follow from PyTorch's generator, whose state is in checkpoints."""
        if self._program.rounds:
            self._project.view("present", 1, np.uint32)[0] = int(torch.randint(2**32, ()))

    def _prepare(self, accumulate: bool) -> None:
        """Have the present plan trained, compiling where its layers are others than before, or gradients are summed anew."""
        plan = self._c_step.plan
        pool = plan.pool or tuple(one.layer for one in plan.channels)
        layout = (pool, plan.biases, plan.classifier, plan.keeps, accumulate)
        if plan is self._plan and layout == self._layout:
            return
        neurons = [one.layer for one in plan.channels if one.axis == "out"]
        if neurons:
            raise RunError(
                f"--backend c trains input channels, not output neurons ({', '.join(neurons)}); leave it out"
            )
        if layout != self._layout:
            self._build(plan, pool, accumulate)
        self._plan, self._layout = plan, layout
        self._draw(plan)

    def _build(self, plan: UpdatePlan, pool: tuple[str, ...], accumulate: bool) -> None:
        """Compile a project with room for all channels of the pool."""
        step = self._c_step
        graph = without_dropout(step.graph)
        largest = replace(plan, channels=tuple(graph.layer[name].whole() for name in pool))
        self._region = lay_out(
            graph, largest, Accounting(tiled=True, accumulate=accumulate), whole=self._always_whole(plan, largest)
        )
        values = describe(step.sync(), self._region, "float32", seed=self._seed, given=True)
        self._program = decide(values, largest)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            write_sources(self._program, path / "c", graph.model, "host", 0.0, is_fixed=False)
            sources = path / "c" / "src"
            own = compile_objects([sources / "kt_project.c", sources / "kt_weights.c"], sources, path)
            runtime = {file.name for file in sources.glob("*.c")} - {"kt_project.c", "kt_weights.c"}
            library = link([*_runtime_objects(runtime), *own], path)
            program = self._program
            self._project = HostProject(library, program.image_elements, program.classes, constants=program.constants)
        self._arena = torch.from_numpy(self._project.view("kt_arena", program.arena_bytes // 4))
        self._weights = {
            node: torch.from_numpy(self._project.view(name, values.constants[name].values.size))
            for node in values.folded
            if (name := f"weight{values.number[node]}") in values.constants
        }
        self._places = {
            node: torch.from_numpy(folded.places) for node, folded in values.folded.items() if folded.places is not None
        }

    def _always_whole(self, plan: UpdatePlan, largest: UpdatePlan) -> tuple[str, ...]:
        """Layers of which every draw trains everything, and which keep their input as it is."""
        if self._draws:
            return ()
        kept = {keep.layer for keep in plan.keeps}
        return tuple(one.layer for one in plan.channels if one in largest.channels and one.layer not in kept)

    def _draw(self, plan: UpdatePlan) -> None:
        """Where the trained channels lie now: whole in their deltas, and zero in the weights that deltas are added to."""
        region, step = self._region, self._c_step
        chosen = {one.layer: one.indices for one in plan.channels}
        indices, places = [chosen.get(layer.name, ()) for layer in region.pool], region.places(plan.channels)
        self._project.train(indices, places)
        names = [f"{layer.name}.weight" for layer in region.pool]
        always = region.trained.items()
        values = {name: at.delta for name, at in zip(names, places, strict=True)}
        values |= {name: item.value.offset for name, item in always}
        gradients = {name: at.gradient for name, at in zip(names, places, strict=True)}
        gradients |= {name: item.gradient.offset for name, item in always if item.gradient}
        self._gradients = []
        for name, parameter in step.live.items() if region.accumulate else ():
            parameter.grad = self._floats(gradients[name], parameter)
            self._gradients.append(parameter.grad)
        lives = {id(live.parameter): live for live in step.program.live}
        self._values = [
            (lives[id(parameter)], self._floats(values[name], parameter)) for name, parameter in step.live.items()
        ]
        self._bring_weights()

    def _bring_values(self) -> None:
        """What PyTorch's parameters are now, with gradients of 0."""
        for live, ours in self._values:
            live.fold(ours)
        if self._gradients:
            torch._foreach_zero_(self._gradients)

    def _bring_weights(self) -> None:
        """The weights that PyTorch's program runs with, zero where they are trained."""
        step = self._c_step
        step.program.refresh()
        trained = {
            step.graph.layer[live.slice.chosen.layer].node: live
            for live, _ in self._values
            if isinstance(live, LiveWeight)
        }
        for node in ({layer.node for layer in self._region.pool} | trained.keys()) & self._weights.keys():
            weight = step._weights[node].weight
            assert weight is not None
            if node in trained:
                weight = weight.clone()
                trained[node].slice.write(weight, torch.zeros_like(trained[node].parameter))
            self._weights[node].copy_(self._stored(node, weight))

    def _stored(self, node: str, weight: torch.Tensor) -> torch.Tensor:
        """A weight as the C has it, one number after the other, of kernels with patterns the taps."""
        return (weight.flatten(2).gather(2, self._places[node]) if node in self._places else weight).reshape(-1)

    def _floats(self, offset: int, like: torch.Tensor) -> torch.Tensor:
        return self._arena[offset // 4 : offset // 4 + like.numel()].view_as(like)


def _images(micro_batches: Sequence[Batch]) -> list[tuple[np.ndarray, int]]:
    """One after the other, with their labels."""
    return [pair for x, y in micro_batches for pair in zip(x.numpy(force=True), y.tolist(), strict=True)]


@cache
def _objects_folder() -> tempfile.TemporaryDirectory[str]:
    """Where object files of the runtime are until the process ends."""
    return tempfile.TemporaryDirectory(prefix="kilotune-")


def _runtime_objects(names: set[str]) -> list[Path]:
    """Object files of C files of the runtime, each compiled once per process, for this computer."""
    folder = Path(_objects_folder().name)
    there = {name: folder / f"{Path(name).stem}.o" for name in sorted(names)}
    compile_objects(
        [RUNTIME / "src" / name for name, made in there.items() if not made.exists()], RUNTIME / "include", folder
    )
    return list(there.values())
