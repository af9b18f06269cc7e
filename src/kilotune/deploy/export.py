"""A network and its plan as an exported folder: sources, manifest, and what a comparison with PyTorch needs."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import nn

from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.drawing import Drawing, find_drawing
from kilotune.codegen.manifest import Manifest
from kilotune.codegen.numbers import WeightsDtype
from kilotune.codegen.package import package
from kilotune.codegen.program import Program
from kilotune.codegen.project import write_sources
from kilotune.codegen.store import check_store, flash_of
from kilotune.deploy.describe import describe, lay_out
from kilotune.errors import BudgetError, ExportError
from kilotune.graph.capture import capture
from kilotune.memory.accounting import FIRMWARE_OPTIMIZERS
from kilotune.memory.ledger import LedgerReport
from kilotune.models.pruned import metadata
from kilotune.train.recipe import Recipe
from kilotune.train.run import Run
from kilotune.train.selection import accounting_of, redraw_of, selector_of
from kilotune.train.tensors import write_tensors
from kilotune.units import format_bytes
from kilotune.update_plan import Budget, UpdatePlan

STACK_BYTES = 2048
"""What the deepest chain of calls needs, with room for an interrupt; the emulator measures it."""


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to make in PyTorch what was exported: ``reference/`` of an exported folder holds it with weights and plan.

    arena_bytes: None where the arena is that of the plan itself. streamed: whether blocks are streamed; mean, std: of pixels.
    seed: of what rounds at random.
    """

    model: str
    classes: int
    input: tuple[int, int, int]
    weights_dtype: WeightsDtype
    learning_rate: float
    momentum: float
    accumulate: bool
    arena_bytes: int | None = None
    streamed: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    seed: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Reference":
        """Of an exported folder. Raises ExportError if it is missing or damaged."""
        try:
            return msgspec.json.decode((folder / "reference" / "reference.json").read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise ExportError(
                f"{folder} cannot be compared: reference/reference.json: {error}; export again"
            ) from error


@dataclass(frozen=True)
class Export:
    """What is exported. recipe: model, input, policy, optimiser and normalisation are taken from it; accumulate: whether
    gradients are summed over samples; plan: instead of what the recipe's policy draws; store_bytes: flash or external RAM for
    what draws have trained, 0 where there is none, None where the board is still to be chosen."""

    model: nn.Module
    recipe: Recipe
    weights_dtype: WeightsDtype = "float32"
    accumulate: bool = True
    plan: UpdatePlan | None = None
    store_bytes: int | None = None

    @classmethod
    def of_run(
        cls, run: Run, weights_dtype: WeightsDtype, accumulate: bool, store_bytes: int | None = None
    ) -> "Export":
        """The tuned network of a run, to go on training as the run did."""
        return cls(run.model, run.record.recipe, weights_dtype, accumulate, store_bytes=store_bytes)

    def write(self, out: Path) -> Manifest:
        """Write the folder, or nothing. Raises ExportError, or BudgetError if the budget cannot hold the policy."""
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ExportError(f"{out} is not an empty folder; choose another")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as half:
            folder = Path(half) / out.name
            manifest = self._write(folder)
            shutil.copytree(folder, out, dirs_exist_ok=True)
        return manifest

    def _write(self, folder: Path) -> Manifest:
        recipe = self.recipe
        if recipe.weight_decay or recipe.optimizer not in FIRMWARE_OPTIMIZERS:
            raise ExportError(
                "a device has SGD, with momentum or without, and no weight decay; train with --optimizer sgd to export"
            )
        momentum = recipe.momentum or (0.9 if recipe.optimizer == "momentum" else 0.0)
        program, drawing, report, plan = self._program(momentum)
        if self.store_bytes is not None:
            check_store(recipe.policy, program.image_bytes, self.store_bytes)
        self._check_program(program)
        write_sources(program, folder, recipe.model or type(self.model).__name__, recipe.policy, recipe.lr)
        manifest = self._manifest(program, drawing, report)
        package(folder, manifest)
        self._write_reference(folder / "reference", program, plan, momentum)
        return manifest

    @property
    def _input(self) -> tuple[int, int, int]:
        shape = self.recipe.input
        if shape is None or len(shape) != 3:
            raise ExportError(f"firmware takes images (c, h, w), this network was trained on inputs {shape}")
        return (shape[0], shape[1], shape[2])

    def _program(self, momentum: float) -> tuple[Program, Drawing | None, LedgerReport, UpdatePlan]:
        recipe = self.recipe
        graph = without_dropout(capture(self.model, torch.zeros(1, *self._input), recipe.model))
        accounting = replace(accounting_of(recipe), accumulate=self.accumulate, tiled=True)
        drawing, total, plan = None, None, self.plan
        if plan is None:
            selector = selector_of(graph, recipe, accounting)
            plan, drawing = selector.draw(), find_drawing(selector, recipe.seed, redraw_of(selector.policy, recipe))
            plan = plan if drawing else replace(plan, pool=(), state_bytes=0)
            total = selector.worst_case.total_bytes - recipe.program if drawing else None
        region = lay_out(graph, plan, replace(accounting, program_bytes=0), total)
        report = region.layout.report(plan)
        if self.plan is not None:
            _check_budget(recipe, report)
        values = describe(self.model, region, self.weights_dtype, drawing, self._mean, self._std, recipe.seed)
        return decide(values, plan, momentum), drawing, report, plan

    def _check_program(self, program: Program) -> None:
        """What is known before anything is linked; ``codegen.firmware.build`` measures the rest."""
        asked, needed = self.recipe.program, program.table_bytes + STACK_BYTES
        if 0 < asked < needed:
            raise ExportError(
                f"the budget sets {asked:,} B aside for the program, but its stack takes {STACK_BYTES:,} B and its tables "
                f"{program.table_bytes:,} B; give --program at least {needed}, and some more for what else it has in RAM"
            )

    @property
    def _mean(self) -> tuple[float, ...]:
        return self.recipe.mean or (0.5,)

    @property
    def _std(self) -> tuple[float, ...]:
        return self.recipe.std or (0.5,)

    def _manifest(self, program: Program, drawing: Drawing | None, report: LedgerReport) -> Manifest:
        recipe = self.recipe
        memory = {kind: nbytes for kind, nbytes in report.by_kind.items() if nbytes}
        memory |= {"other draws": program.arena_bytes - report.total_bytes} if drawing else {}
        memory |= {"tables": program.table_bytes, "stack": STACK_BYTES}
        return Manifest(
            model=recipe.model or type(self.model).__name__,
            input=self._input,
            n_classes=program.classes,
            mean=self._mean,
            std=self._std,
            image_dtype="uint8" if program.image_is_bytes else "float32",
            policy=recipe.policy if self.plan is None else "given plan",
            redraw="never" if drawing is None else drawing.redraw,
            seed=recipe.seed,
            optimizer=recipe.optimizer,
            learning_rate=recipe.lr,
            weights_dtype=self.weights_dtype,
            memory=memory,
            arena_bytes=program.arena_bytes,
            stack_bytes=STACK_BYTES,
            ram_bytes=sum(memory.values()),
            flash_bytes=program.flash_bytes,
            store_bytes=flash_of(program.image_bytes),
            program_bytes=recipe.program,
        )

    def _write_reference(self, folder: Path, program: Program, plan: UpdatePlan, momentum: float) -> None:
        recipe = self.recipe
        folder.mkdir()
        name = recipe.model or ""
        reference = Reference(
            name,
            program.classes,
            self._input,
            self.weights_dtype,
            recipe.lr,
            momentum,
            self.accumulate,
            program.arena_bytes,
            recipe.streamed,
            self._mean,
            self._std,
            recipe.seed,
        )
        (folder / "reference.json").write_bytes(msgspec.json.format(msgspec.json.encode(reference)) + b"\n")
        (folder / "plan.json").write_text(plan.to_json())
        write_tensors(folder / "weights.safetensors", self.model.state_dict(), metadata(self.model))


def _check_budget(recipe: Recipe, report: LedgerReport) -> None:
    """Raises BudgetError where a plan that was made before does not fit the recipe's budget."""
    if recipe.budget is None:
        return
    budget = Budget.parse(recipe.budget, recipe.ledger)
    counted = {
        "total": report.total_bytes + recipe.program,
        "selection": report.selection_bytes,
        "parameters": report.weight_elements * report.accounting.element_bytes,
    }
    needed = counted[budget.ledger]
    if needed > budget.nbytes:
        raise BudgetError(
            f"the plan takes {format_bytes(needed)} ({budget.ledger} ledger), the budget is {format_bytes(budget.nbytes)}; "
            "raise the budget, or make a plan for it with `kilotune plan`"
        )
