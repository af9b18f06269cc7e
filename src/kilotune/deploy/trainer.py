"""The C library as a trainer on the CPU: it computes losses and gradients, PyTorch's optimiser and everything around stay."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch

from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.host import HostProject, compile_objects, link
from kilotune.codegen.numbers import store
from kilotune.codegen.program import Place
from kilotune.codegen.project import RUNTIME, write_sources
from kilotune.deploy.describe import describe, lay_out
from kilotune.errors import RunError
from kilotune.graph.node import Dropout
from kilotune.memory.accounting import Accounting
from kilotune.ops.prepare import Step
from kilotune.train.loop import FineTuner
from kilotune.train.recipe import Recipe
from kilotune.train.stepping import Batch, Stepper
from kilotune.update_plan import UpdatePlan


class CFineTuner(FineTuner):
    """A FineTuner whose losses and gradients come from the exported C, one image after another.

    Raises RunError for what the C cannot do: other devices and number formats, dropout, new channels in every step.
    """

    def _prepare(self) -> None:
        super()._prepare()
        if self.recipe.precision != "float32" or self.device.type != "cpu" or self.recipe.accumulate != 1:
            raise RunError("--backend c trains in float32 on the CPU, without micro-batches; leave the backend out")
        if any(isinstance(node.op, Dropout) and node.op.p for node in self.graph.nodes):
            raise RunError("--backend c has no dropout; leave the backend out, or set its probability to 0")
        if self.selection.draws_in_epochs:
            raise RunError(
                "--backend c compiles every new plan, which takes seconds; let it draw once per epoch: --redraw epoch"
            )
        self._stepper = CStepper(self.step, self.recipe, self.device)


class CStepper(Stepper):
    """A Stepper that lets a C project compute the gradient."""

    def __init__(self, step: torch.nn.Module, recipe: Recipe, device: torch.device):
        super().__init__(step, recipe, device)
        assert isinstance(step, Step)
        self._c_step: Step = step
        self._plan: UpdatePlan | None = None

    def gradient(self, micro_batches: Sequence[Batch]) -> torch.Tensor:
        """Leave the gradient of the mean loss over all images in ``.grad``; that loss."""
        if self._plan is not self._c_step.plan:
            self._build()
        self._push()
        images = [pair for x, y in micro_batches for pair in zip(x.numpy(force=True), y.tolist(), strict=True)]
        losses = [self._project.train_step(image, label) for image, label in images]
        for name, place, elements in self._places("gradient"):
            parameter = self._c_step.live[name]
            summed = torch.from_numpy(self._project.floats(place.offset, elements))
            parameter.grad = (summed / len(images)).view_as(parameter)
            self._project.write_floats(place.offset, torch.zeros(elements).numpy())
        return torch.tensor(losses).mean()

    def _build(self) -> None:
        """Compile the plan that is trained now, over the weights as they are now."""
        step = self._c_step
        model = step.sync()
        region = lay_out(without_dropout(step.graph), step.plan, Accounting())
        self._values = describe(model, region, "float32")
        self._program = decide(self._values, step.plan)
        self._plan = step.plan
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            write_sources(self._program, path / "c", step.graph.model, "host", 0.0)
            sources = path / "c" / "src"
            own = compile_objects([sources / "kt_project.c", sources / "kt_weights.c"], sources, path)
            library = link([*_runtime_objects(), *own], path)
            self._project = HostProject(library, self._program.image_elements, self._program.classes)

    def _push(self) -> None:
        """Bring the parameters as the optimiser left them to where the C reads them."""
        step = self._c_step
        step.program.refresh()
        for name, place, _ in self._places("value"):
            layer, _, kind = name.rpartition(".")
            node = step.graph.node[step.graph.layer[layer].node]
            running = step._weights[node.name]
            assert running.weight is not None
            if kind == "bias":
                assert running.bias is not None
                self._project.write_floats(place.offset, running.bias.numpy())
                continue
            base = torch.from_numpy(store(self._values.folded[node.name].weight, "float32").numbers)
            delta = step._live_weights[layer].slice.cut(running.weight - base)
            self._project.write_floats(place.offset, delta.numpy())

    def _places(self, what: str) -> Iterator[tuple[str, Place, int]]:
        """(parameter, place, elements) of values or gradients."""
        table = next(item for item in self._program.structs if item.name == "kt_slices")
        for layer, row in zip(self._program.slices, table.rows, strict=True):
            place = row[{"value": 1, "gradient": 2}[what]]
            assert isinstance(place, Place)
            if row[5]:
                yield f"{layer}.weight", place, self._c_step.live[f"{layer}.weight"].numel()
        for name, trained in self._values.region.trained.items():
            if name.endswith(".bias"):
                yield name, getattr(trained, what), trained.elements


@cache
def _runtime_objects() -> tuple[Path, ...]:
    """Object files of the runtime, compiled once per process for this computer."""
    folder = Path(tempfile.mkdtemp(prefix="kilotune-"))
    return tuple(compile_objects(sorted((RUNTIME / "src").glob("*.c")), RUNTIME / "include", folder))
