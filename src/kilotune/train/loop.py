"""Fine-tuning: per epoch draw a plan, train its channels, observe their norms, evaluate, record, checkpoint."""

import logging
from contextlib import ExitStack, nullcontext, suppress
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import torch

from kilotune.errors import RunError, TrainingError
from kilotune.graph.capture import capture
from kilotune.models.pruned import metadata
from kilotune.ops.prepare import prepare
from kilotune.train.checkpoint import (
    Checkpoint,
    generator_states,
    optimizer_state,
    restore_generators,
    restore_optimizer,
    seeded_generators,
)
from kilotune.train.feed import Feed, Source
from kilotune.train.folder import RunFolder
from kilotune.train.interrupt import Interrupt
from kilotune.train.keeping import calibrate, factor_tensors, restore_factors, take_capped
from kilotune.train.observer import OBSERVERS
from kilotune.train.progress import Progress
from kilotune.train.recipe import Backend, Recipe
from kilotune.train.record import EpochFigures, Record, Status, birth_certificate
from kilotune.train.schedule import Schedule
from kilotune.train.selection import Selection
from kilotune.train.stepping import Metrics, Stepper, evaluate, find_device
from kilotune.train.tensors import snapshot, write_tensors
from kilotune.train.update import fingerprint, write_update

logger = logging.getLogger(__name__)

LOOK_EVERY = 20  # Steps between looks at the loss: looking waits for the device, and a sum that became NaN stays NaN.


class FineTuner:
    """Fine-tunes ``model``, called with ``example`` (n, c, h, w), inside ``budget``; ``fields`` are ``Recipe``'s.

    The model keeps its identity: its own parameters hold the tuned weights after ``fit``.
    """

    backend: ClassVar[Backend] = "torch"

    def __init__(
        self,
        model: torch.nn.Module,
        example: torch.Tensor,
        /,
        budget: str | int | None = None,
        policy: str = "medyate",
        seed: int = 0,
        **fields: Any,
    ):
        given = {"input": list(example.shape[1:]), "backend": self.backend, **fields}
        self.recipe = Recipe.of(**given, budget=budget, policy=policy, seed=seed)
        if self.recipe.backend != self.backend:
            raise RunError(
                f"{type(self).__name__} has the backend {self.backend!r}, the recipe says {self.recipe.backend!r}; "
                "leave it out of the fields, or take the tuner of the other one"
            )
        self.device = find_device(self.recipe.device)
        self.model = model.to(self.device)
        self.base = snapshot(model.state_dict())
        self._example = example.to(self.device)
        self.graph = capture(model, self._example, self.recipe.model)
        self.selection = Selection(self.graph, self.recipe)
        self._generators = seeded_generators(seed)
        self._home: RunFolder | None = None
        self._prepare()
        self.record = Record(
            recipe=self.recipe,
            ledger=self.selection.figures(),
            survey=self.selection.survey_figures(),
            base_sha256=fingerprint(self.base),
            **birth_certificate(self.device),
        )

    def fit(
        self, train: Source, val: Source, epochs: int | None = None, out: str | Path | None = None, quiet: bool = False
    ) -> Record:
        """Train until ``epochs`` epochs are done, those before included; the record, also written to ``out``.

        train, val: a kilotune data set or split, or batches (images, labels) that can be gone through again and again
        and know their number. Raises TrainingError if the loss stops being finite or the disk refuses, and
        KeyboardInterrupt after Ctrl-C; the checkpoint in ``out`` is then that of the last finished epoch.
        """
        self.recipe = self.record.recipe = self.recipe.but(epochs=epochs or self.recipe.epochs)
        feed = Feed.training(train, self.recipe, self.device)
        folder = None if out is None else RunFolder(Path(out))
        with ExitStack() as stack:
            interrupt = stack.enter_context(Interrupt())
            stack.callback(self._stepper.settle)
            stack.enter_context(torch.random.fork_rng())
            restore_generators(self._generators)
            self._begin(val, folder)
            with torch.random.fork_rng():
                self._observer.begin(feed)
            stack.enter_context(folder.log() if folder else nullcontext())
            progress = stack.enter_context(self._progress(feed, quiet))
            try:
                calibrate(self.step, feed)
                for epoch in range(len(self.record.epochs), self.recipe.epochs):
                    self._epoch(epoch, feed, val, interrupt, progress)
                    self._keep(folder)
                self.record.status = "done"
                if folder:
                    self._write_results(folder)
            except (TrainingError, KeyboardInterrupt) as error:
                raise self._broken_off(error, folder) from error
            except Exception as error:
                self._close("failed", f"{type(error).__name__}: {error}", folder)
                raise
        return self.record

    def evaluate(self, val: Source) -> Metrics:
        """Accuracy (a share), mean loss and number of images."""
        return evaluate(self.step, Feed.evaluation(val, self.recipe, self.device).batches(0))

    def save(self, out: str | Path) -> None:
        """Write the run folder, which ``resume`` takes up again. Raises RunError if there is one already."""
        folder = RunFolder(Path(out))
        self._create(folder)
        with folder.log():
            self._keep(folder)
            self._write_results(folder)
            logger.info("saved after %d epochs", len(self.record.epochs))

    def resume(self, out: str | Path) -> None:
        """Take up the run in ``out`` where its last epoch ended; ``fit`` then goes on as if it had never stopped.

        Raises RunError if there is no checkpoint, or it is from another recipe or base than this tuner's.
        """
        folder = RunFolder(Path(out))
        checkpoint = Checkpoint.read(folder.checkpoint)
        self._check_same_run(checkpoint.record)
        self.model.load_state_dict(checkpoint.weights)
        self.selection.restore(checkpoint.plan, checkpoint.selector)
        self._prepare()
        live, tensors, numbers = self.step.live, checkpoint.optimizer, checkpoint.optimizer_numbers
        restore_optimizer(self._stepper.optimizer, live, tensors, numbers)
        self._stepper.scaler.load_state_dict(checkpoint.scaler)
        restore_factors(self.step, checkpoint.factors)
        self._generators = checkpoint.generators
        self.recipe = checkpoint.record.recipe
        self.record = checkpoint.record
        self._home = folder

    def _prepare(self) -> None:
        dtype = getattr(torch, self.recipe.precision)
        plan = self.selection.plan
        self.step = prepare(self.model, self._example, plan, self.graph, dtype, self.recipe.channels_last)
        self._stepper = Stepper(self.step, self.recipe, self.device)
        self._observer = OBSERVERS[self.selection.observes](self.step, self.selection)

    def _check_same_run(self, other: Record) -> None:
        ours = self.recipe.but(epochs=other.recipe.epochs)
        differing = [name for name in Recipe.__struct_fields__ if getattr(ours, name) != getattr(other.recipe, name)]
        if differing:
            asked = ", ".join(f"{name}={getattr(other.recipe, name)!r}" for name in differing)
            raise RunError(f"the run was made with {asked}, this tuner was not; make it with the recipe of the run")
        if other.base_sha256 != self.record.base_sha256:
            raise RunError(
                f"the run started from weights with SHA-256 {other.base_sha256}, this model has "
                f"{self.record.base_sha256}; load checkpoint/base.safetensors of the run into the model first"
            )

    def _create(self, folder: RunFolder) -> None:
        folder.create()
        write_tensors(folder.base, self.base, metadata(self.model))
        self._home = folder

    def _begin(self, val: Source, folder: RunFolder | None) -> None:
        """Before the first epoch: the base's accuracy, and a checkpoint to come back to."""
        self.record.status, self.record.error = "running", None
        is_new = folder is not None and folder != self._home
        if folder and is_new:
            self._create(folder)
        if self.record.accuracy_before is None:
            self.record.accuracy_before = self.record.accuracy = self.record.best_accuracy = self.evaluate(val).accuracy
        if folder and is_new:
            self._keep(folder)

    def _progress(self, feed: Feed, quiet: bool) -> Progress:
        worst = self.record.ledger.worst_total_bytes
        return Progress(self.recipe.epochs, self.recipe.epochs * feed.steps_per_epoch, worst, quiet)

    def _epoch(self, epoch: int, feed: Feed, val: Source, interrupt: Interrupt, progress: Progress) -> None:
        """Draw, train one epoch (from 0), evaluate and record it."""
        started = perf_counter()
        if self.selection.is_due(epoch, 0):
            self._redraw(epoch, feed)
        channels, ledger = self.selection.plan.channels, self.selection.figures()
        progress.start_epoch(epoch, ledger.total_bytes, self.record.accuracy or 0.0)
        loss, rate, n_plans = self._train_epoch(epoch, feed, interrupt, progress)
        metrics = self.evaluate(val)
        _check_finite(metrics.loss, f"the evaluation after epoch {epoch + 1}")
        figures = EpochFigures(
            epoch=epoch + 1,
            loss=loss,
            accuracy=metrics.accuracy,
            val_loss=metrics.loss,
            lr=rate,
            seconds=perf_counter() - started,
            selection_elements=ledger.selection_elements,
            total_bytes=ledger.total_bytes,
            plans=n_plans,
            channels=channels,
            capped=take_capped(self.step),
        )
        self.record.add(figures)
        logger.info("epoch %d: loss %.4f, accuracy %.4f, %d B", epoch + 1, loss, metrics.accuracy, ledger.total_bytes)

    def _train_epoch(
        self, epoch: int, feed: Feed, interrupt: Interrupt, progress: Progress
    ) -> tuple[float, float, int]:
        """Mean loss, last learning rate and number of plans of one epoch of steps."""
        n_steps, n_plans = feed.steps_per_epoch, 1
        schedule = Schedule.of(self.recipe, n_steps)
        total, loss, rate = torch.zeros((), device=self.device), 0.0, 0.0
        self.step.train()
        for index, micro_batches in enumerate(feed.steps(epoch)):
            if index and self.selection.is_due(epoch, index):
                self._redraw(epoch, feed)
                n_plans += 1
            rate = schedule.rate(epoch * n_steps + index)
            total += self._stepper.train(micro_batches, rate, self._observer.after_gradient)
            if index % LOOK_EVERY == 0 or index + 1 == n_steps:
                loss = total.item() / (index + 1)
                _check_finite(loss, f"epoch {epoch + 1} by step {index + 1} of {n_steps}")
                progress.at(epoch * n_steps + index + 1, loss)
            if interrupt.asked:
                raise KeyboardInterrupt
        self._stepper.settle()
        self._observer.after_training()
        return loss, rate, n_plans

    def _redraw(self, epoch: int, feed: Feed) -> None:
        self._stepper.settle()
        self._observer.after_training()
        self.record.count_survey(self._observer.before_draw(feed, epoch, self.recipe, self.device))
        plan = self.selection.redraw()
        self.step.replan(plan, self._stepper.optimizer, self.recipe.optimizer_state)

    def _keep(self, folder: RunFolder | None) -> None:
        """Remember the end of this epoch, and write it where there is a folder."""
        self.step.sync()
        self._generators = generator_states()
        if folder is None:
            return
        tensors, numbers = optimizer_state(self._stepper.optimizer, self.step.live)
        Checkpoint(
            weights=dict(self.model.state_dict()),
            optimizer=tensors,
            optimizer_numbers=numbers,
            generators=self._generators,
            factors=factor_tensors(self.step),
            plan=self.selection.plan,
            selector=self.selection.state(),
            scaler=self._stepper.scaler.state_dict(),
            record=self.record,
        ).write(folder.checkpoint)
        self.record.write(folder.record)

    def _write_results(self, folder: RunFolder) -> None:
        tuned = self.model.state_dict()
        write_tensors(folder.weights, tuned, metadata(self.model))
        write_update(folder.update, self.base, tuned)
        self.record.write(folder.record)

    def _broken_off(self, error: TrainingError | KeyboardInterrupt, folder: RunFolder | None) -> BaseException:
        """The error to raise: what happened, what is kept and how to go on; also recorded."""
        done = len(self.record.epochs)
        stopped = isinstance(error, KeyboardInterrupt)
        kept = f"the state after epoch {done} is in {folder.checkpoint}" if folder else "nothing was written (no `out`)"
        way_on = f"; go on with: kilotune resume {folder.path}" if folder and stopped else ""
        message = f"stopped in epoch {done + 1}; {kept}{way_on}" if stopped else f"{error}; {kept}"
        self._close("stopped" if stopped else "failed", message, folder)
        return type(error)(message)

    def _close(self, status: Status, message: str, folder: RunFolder | None) -> None:
        """Record how the run ended; on a full disk the message of the error at hand matters more."""
        logger.info(message)
        self.record.status, self.record.error = status, message
        if folder:
            with suppress(TrainingError):
                self.record.write(folder.record)


def _check_finite(loss: float, where: str) -> None:
    if not isfinite(loss):
        raise TrainingError(f"the loss became {loss} in {where}; lower the learning rate, or warm up longer")
