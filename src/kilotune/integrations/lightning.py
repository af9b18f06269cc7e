"""A callback for PyTorch Lightning: ``pip install kilotune[lightning]``."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from msgspec import structs
from torch import Tensor

from kilotune.errors import RunError
from kilotune.integrations.redrawing import Redrawing


class SparseUpdate(Callback):
    """Trains one submodule of a LightningModule under a memory budget, redrawing as the policy wants, and logs the bytes.

        Trainer(callbacks=[SparseUpdate("net", example, budget="256KiB")]).fit(module, data)

    submodule: its name in the LightningModule; it is called with batches like ``example`` (n, c, h, w). From ``setup``
    until training ends it is the prepared module, so that ``configure_optimizers`` sees the live parameters only; then the
    trained network is back in its place. Checkpoints hold the whole network under its own names, and ``fit(ckpt_path=...)``
    goes on from one as if it had never stopped.
    fields: as for ``Redrawing``; ``optimizer`` names what ``configure_optimizers`` returns ("sgd" unless said otherwise).
    """

    def __init__(self, submodule: str, example: Tensor, budget: str | int, **fields: Any):
        self._submodule = submodule
        self._example = example
        self._fields = {"budget": budget, **fields}
        self.redrawing: Redrawing | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the prepared module in place of the network. Raises RunError if there is no such submodule."""
        if stage != "fit" or self.redrawing is not None:
            return
        device = trainer.strategy.root_device
        try:
            network = pl_module.get_submodule(self._submodule).to(device)
        except AttributeError as error:
            raise RunError(f"the LightningModule has no submodule {self._submodule!r}: {error}") from error
        self.redrawing = Redrawing(network, self._example.to(device), **self._fields)
        pl_module.set_submodule(self._submodule, self.redrawing.step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Redraw, at the first of the batches that are accumulated into an optimiser step."""
        index, within = divmod(batch_idx, trainer.accumulate_grad_batches)
        if within == 0:
            self._active.before_step(trainer.current_epoch, index, _only(trainer.optimizers))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Observe the gradients, before any clipping."""
        self._active.before_update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both ledgers of the last plan of the epoch, and the worst case, under ``kilotune/``."""
        figures = structs.asdict(self._active.figures())
        pl_module.log_dict({f"kilotune/{name}": float(value) for name, value in figures.items()})

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: the present plan, and how its policy goes on."""
        return {} if self.redrawing is None else self.redrawing.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Train what was trained when the checkpoint was written, so that the optimiser's state fits."""
        if state_dict:
            self._active.restore(state_dict)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained network back."""
        self._give_back(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the network back as far as it was trained."""
        self._give_back(pl_module)

    @property
    def _active(self) -> Redrawing:
        if self.redrawing is None:
            raise RunError("the callback was not set up; give it to the Trainer that fits the module")
        return self.redrawing

    def _give_back(self, pl_module: LightningModule) -> None:
        if self.redrawing is not None:
            pl_module.set_submodule(self._submodule, self.redrawing.step.restore())
            self.redrawing = None


def _only(optimizers: list[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    if len(optimizers) != 1:
        raise RunError(f"there are {len(optimizers)} optimisers; kilotune follows exactly one")
    return optimizers[0]
