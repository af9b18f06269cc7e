"""The C library as a trainer on the CPU: it computes losses and gradients, PyTorch's optimiser and everything around stay."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.host import HostProject, compile_objects, link
from kilotune.codegen.numbers import at_places
from kilotune.codegen.project import RUNTIME, write_sources
from kilotune.deploy.describe import describe, lay_out
from kilotune.errors import RunError
from kilotune.graph.node import Dropout
from kilotune.memory.accounting import Accounting
from kilotune.ops.prepare import Step
from kilotune.ops.slices import LiveWeight
from kilotune.train.loop import FineTuner
from kilotune.train.recipe import Recipe
from kilotune.train.stepping import Batch, Stepper
from kilotune.update_plan import ChannelSet, UpdatePlan


class CFineTuner(FineTuner):
    """A FineTuner whose losses and gradients come from the exported C, one image after another.

    Raises RunError for what the C cannot do: other devices and number formats, dropout.
    """

    def _prepare(self) -> None:
        super()._prepare()
        if self.recipe.precision != "float32" or self.device.type != "cpu" or self.recipe.accumulate != 1:
            raise RunError("--backend c trains in float32 on the CPU, without micro-batches; leave the backend out")
        if any(isinstance(node.op, Dropout) and node.op.p for node in self.graph.nodes):
            raise RunError("--backend c has no dropout; leave the backend out, or set its probability to 0")
        self._stepper = CStepper(self.step, self.recipe, self.device)


class CStepper(Stepper):
    """A Stepper that lets a C project compute the gradient.

    The project is compiled for the layers that draws may train, as the weights of PyTorch's program, which are brought to it
    before each step. A draw only says which channels are trained.
    """

    def __init__(self, step: torch.nn.Module, recipe: Recipe, device: torch.device):
        super().__init__(step, recipe, device)
        assert isinstance(step, Step)
        self._c_step: Step = step
        self._seed = recipe.seed
        self._plan: UpdatePlan | None = None
        self._layout: tuple[object, ...] | None = None

    def gradient(self, micro_batches: Sequence[Batch]) -> torch.Tensor:
        """Leave the gradient of the mean loss over all images in ``.grad``, where the C summed it; that loss."""
        if self._plan is not self._c_step.plan:
            self._prepare(self._c_step.plan)
        for live, ours in self._values:
            live.fold(ours)
        summed = [ours for _, ours in self._gradients]
        torch._foreach_zero_(summed)
        images = [pair for x, y in micro_batches for pair in zip(x.numpy(force=True), y.tolist(), strict=True)]
        losses = [self._project.train_step(image, label) for image, label in images]
        if len(images) > 1:
            torch._foreach_div_(summed, len(images))
        for parameter, ours in self._gradients:
            parameter.grad = ours
        return torch.tensor(losses).mean()

    def _prepare(self, plan: UpdatePlan) -> None:
        """Have the present plan trained, compiling where its layers are others than before."""
        neurons = [one.layer for one in plan.channels if one.axis == "out"]
        if neurons:
            raise RunError(
                f"--backend c trains input channels, not output neurons ({', '.join(neurons)}); leave it out"
            )
        pool = plan.pool or tuple(one.layer for one in plan.channels)
        layout = (pool, plan.biases, plan.classifier, plan.keeps)
        if layout != self._layout:
            self._build(plan, pool)
        self._plan, self._layout = plan, layout
        self._draw(plan)

    def _build(self, plan: UpdatePlan, pool: tuple[str, ...]) -> None:
        """Compile a project with room for all channels of the pool."""
        step = self._c_step
        graph = without_dropout(step.graph)
        whole = tuple(ChannelSet(name, "in", tuple(range(graph.layer[name].in_channels))) for name in pool)
        self._region = lay_out(graph, replace(plan, channels=whole), Accounting(tiled=True))
        values = describe(step.sync(), self._region, "float32", seed=self._seed)
        self._program = decide(values, replace(plan, channels=whole))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            write_sources(self._program, path / "c", graph.model, "host", 0.0, is_fixed=False)
            sources = path / "c" / "src"
            own = compile_objects([sources / "kt_project.c", sources / "kt_weights.c"], sources, path)
            library = link([*_runtime_objects(), *own], path)
            program = self._program
            self._project = HostProject(library, program.image_elements, program.classes, constants=program.constants)
        self._arena = torch.from_numpy(self._project.view("kt_arena", program.arena_bytes // 4))
        self._weights = {
            node: torch.from_numpy(self._project.view(f"weight{values.number[node]}", stored.size))
            for node, folded in values.folded.items()
            for stored in [at_places(folded.weight, folded.places)]
        }
        self._places = {
            node: torch.from_numpy(folded.places) for node, folded in values.folded.items() if folded.places is not None
        }

    def _draw(self, plan: UpdatePlan) -> None:
        """Where the trained channels lie now: whole in their deltas, and zero in the weights that deltas are added to."""
        region, step = self._region, self._c_step
        chosen = {one.layer: one.indices for one in plan.channels}
        indices, places = [chosen.get(layer.name, ()) for layer in region.pool], region.places(plan.channels)
        self._project.train(indices, places)
        drawn = {
            f"{layer.name}.weight": (at.delta, at.gradient)
            for layer, one, at in zip(region.pool, indices, places, strict=True)
            if one
        }
        always = {
            name: (item.value.offset, item.gradient.offset) for name, item in region.trained.items() if item.gradient
        }
        at = drawn | always
        self._gradients = [(parameter, self._floats(at[name][1], parameter)) for name, parameter in step.live.items()]
        lives = {id(live.parameter): live for live in step.program.live}
        self._values = [
            (lives[id(parameter)], self._floats(at[name][0], parameter)) for name, parameter in step.live.items()
        ]
        self._bring_weights()

    def _bring_weights(self) -> None:
        """The weights that PyTorch's program runs with, zero where they are trained."""
        step = self._c_step
        step.program.refresh()
        trained = {
            step.graph.layer[live.slice.chosen.layer].node: live
            for live, _ in self._values
            if isinstance(live, LiveWeight)
        }
        for node in {layer.node for layer in self._region.pool} | trained.keys():
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


@cache
def _runtime_objects() -> tuple[Path, ...]:
    """Object files of the runtime, compiled once per process for this computer."""
    folder = Path(tempfile.mkdtemp(prefix="kilotune-"))
    return tuple(compile_objects(sorted((RUNTIME / "src").glob("*.c")), RUNTIME / "include", folder))
