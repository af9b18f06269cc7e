"""One optimiser step: gradient of the mean loss over its micro-batches, then the update."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from kilotune.errors import DataError, RunError
from kilotune.train.optim import make_optimizer
from kilotune.train.recipe import Recipe

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Metrics:
    """Share of images classified correctly, mean cross-entropy, and number of images."""

    accuracy: float
    loss: float
    n: int


class Stepper:
    """A trainable module with its optimiser, and the scaling of losses that float16 needs."""

    def __init__(self, step: torch.nn.Module, recipe: Recipe, device: torch.device):
        self.step = step
        self.device = device
        self.optimizer = make_optimizer(step.parameters(), recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")

    def train(self, micro_batches: Sequence[Batch], learning_rate: float, look: Callable[[], None]) -> torch.Tensor:
        """One step, with a ``look`` at the gradient before the update; the loss, as ``gradient`` gives it."""
        loss = self.gradient(micro_batches)
        look()
        self.update(learning_rate)
        return loss

    def gradient(self, micro_batches: Sequence[Batch]) -> torch.Tensor:
        """Leave the gradient of the mean loss over all images together in ``.grad``; that loss, on the device.

        Exactly the gradient of one batch with these images, whatever the sizes of the micro-batches.
        """
        n_images = sum(len(y) for _, y in micro_batches)
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for x, y in micro_batches:
            loss = cross_entropy(self.step(x), y, reduction="sum") / n_images
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        self.scaler.unscale_(self.optimizer)
        return torch.stack(losses).sum()

    def update(self, learning_rate: float) -> None:
        """One step of the optimiser along the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def settle(self) -> None:
        """Have the parameters hold what was trained, before somebody else looks at them. They do, here."""

    def leave(self) -> None:
        """Leave the weights as they are; the gradient was only looked at."""
        self.scaler.update()


@torch.no_grad()
def evaluate(module: torch.nn.Module, batches: Iterable[Batch]) -> Metrics:
    """Accuracy and loss in evaluation mode; the mode is put back. Raises DataError if there is no batch."""
    was_training = module.training
    module.eval()
    n_images, sums = 0, torch.zeros(2)
    for x, y in batches:
        logits = module(x)
        sums = sums.to(x.device)
        sums += torch.stack([logits.argmax(1).eq(y).float().sum(), cross_entropy(logits, y, reduction="sum")])
        n_images += len(y)
    module.train(was_training)
    if not n_images:
        raise DataError("there is nothing to evaluate on: the validation data has no batch")
    accuracy, loss = (sums.double() / n_images).tolist()
    return Metrics(accuracy, loss, n_images)


def find_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is the first GPU, or the CPU. Raises RunError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"there is no device {name!r} here: {error}; use cpu, cuda or auto") from error
