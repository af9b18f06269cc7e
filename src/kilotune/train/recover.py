"""Recovery of a pruned network: it learns to answer as the network it was pruned from, on images without labels."""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kilotune.data.augment import Augment, resample
from kilotune.data.images import generator
from kilotune.errors import TrainingError
from kilotune.prune.patterns import project
from kilotune.train.schedule import Schedule
from kilotune.train.stepping import find_device

logger = logging.getLogger(__name__)

_HELD_OUT = 10  # One image in this many is not trained on and tells how far the recovery got, but at most so many:
_MOST_HELD_OUT = 512


@dataclass(frozen=True)
class Recovery:
    """How a pruned network is trained; everything of it is, batch norm included: this happens offline, without a budget.

    The original network sees the same crops at ``teacher_side``, the pruned one at ``side``: where that is smaller, it
    learns besides to see as much in fewer pixels. The loss is the mean squared difference of the logits, divided by the
    variance of the original's (Ba and Caruana 2014). Adam, 5 % of the steps warm-up, cosine to zero.
    detail: side, in pixels, at which the camera of the later task sees; the pruned network's crops go through that size.
    """

    side: int
    teacher_side: int
    detail: int | None = None
    epochs: int = 10
    lr: float = 1e-3
    batch_size: int = 32
    augment: str = "crop"
    crop_scale: tuple[float, float] = (0.35, 1.0)
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    seed: int = 0

    @property
    def augments(self) -> tuple[Augment, Augment]:
        """How crops come to the pruned network, before ``shrunk``, and to the original."""
        first, second = (
            Augment(side, self.augment, self.mean, self.std, self.crop_scale)
            for side in (self.detail or self.side, self.teacher_side)
        )
        return first, second

    def shrunk(self, x: Tensor) -> Tensor:
        """Crops (n, c, ``detail``, ``detail``) at the size of the pruned network's input."""
        if x.shape[-1] == self.side:
            return x
        return resample(x, torch.tensor([[0, 0, *x.shape[2:]]]), torch.tensor([False]), (self.side, self.side))

    def view(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) uint8 as the pruned network sees them, not augmented."""
        return self.shrunk(self.augments[0].evaluate(images))


@dataclass(frozen=True)
class Agreement:
    """On held-out images: the loss, and the share for which both networks name the same class."""

    loss: float
    share: float


def recover(
    pruned: nn.Module, original: nn.Module, images: Tensor, recovery: Recovery, device: str = "auto"
) -> list[Agreement]:
    """Train ``pruned`` in place on images (n, c, h, w) uint8; the agreement before and after each epoch.

    Kernels that were cut down to patterns stay so.
    Raises TrainingError if the loss stops being finite.
    """
    place = find_device(device)
    teacher, student = deepcopy(original).to(place).eval(), pruned.to(place).requires_grad_(True)
    pairs = _Pairs(teacher, images, recovery, place)
    optimizer = torch.optim.Adam(student.parameters(), lr=recovery.lr)
    total = recovery.epochs * pairs.n_batches
    schedule = Schedule(recovery.lr, total // 20, total)
    seen = [_agreement(student, pairs.held_out())]
    for epoch in range(recovery.epochs):
        student.train()
        for index, (x, logits) in enumerate(pairs.epoch(epoch)):
            optimizer.param_groups[0]["lr"] = schedule.rate(epoch * pairs.n_batches + index)
            optimizer.zero_grad(set_to_none=True)
            _difference(student(x), logits).backward()
            optimizer.step()
            project(student)
        seen.append(_agreement(student, pairs.held_out()))
        logger.info("recovery epoch %d: loss %.4f, agreement %.4f", epoch + 1, seen[-1].loss, seen[-1].share)
        if not torch.isfinite(torch.tensor(seen[-1].loss)):
            raise TrainingError(f"the recovery diverged in epoch {epoch + 1}; lower its learning rate")
    student.to("cpu").eval()
    return seen


def answering_loss(x: Tensor) -> Callable[[nn.Module], Tensor]:
    """What importance is measured by where no labels are known: cross-entropy against the network's own answers to ``x``."""

    def loss(model: nn.Module) -> Tensor:
        logits = model(x)
        return cross_entropy(logits, logits.detach().argmax(1))

    return loss


class _Pairs:
    """Batches for the pruned network with the logits of the original for the same crops."""

    def __init__(self, teacher: nn.Module, images: Tensor, recovery: Recovery, device: torch.device):
        self._teacher, self._recovery, self._device = teacher, recovery, device
        n_held_out = max(1, min(len(images) // _HELD_OUT, _MOST_HELD_OUT))
        order = torch.randperm(len(images), generator=generator(recovery.seed, _ORDER_STREAM))
        self._held_out, self._train = images[order[:n_held_out]], images[order[n_held_out:]]

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return max(1, len(self._train) // self._recovery.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, logits) in a new order, augmented."""
        order = torch.randperm(len(self._train), generator=generator(self._recovery.seed, number))
        for index, chosen in enumerate(order.split(self._recovery.batch_size)[: self.n_batches]):
            # The same draws for both sizes: crops are drawn in pixels of the stored image.
            draws = [generator(self._recovery.seed, (number + 1 << 20) + index) for _ in range(2)]
            x, large = (a.train(self._train[chosen], d) for a, d in zip(self._recovery.augments, draws, strict=True))
            yield self._placed(self._recovery.shrunk(x)), self._logits(large)

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, logits) of the images that are not trained on."""
        for images in self._held_out.split(128):
            large = self._recovery.augments[1].evaluate(images)
            yield self._placed(self._recovery.view(images)), self._logits(large)

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
        return self._teacher(self._placed(x))

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self._device, memory_format=torch.channels_last)


_ORDER_STREAM = 1 << 42


def _difference(logits: Tensor, wanted: Tensor) -> Tensor:
    return (logits - wanted).square().mean() / wanted.var()


@torch.no_grad()
def _agreement(student: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> Agreement:
    student.eval()
    n, loss, same = 0, 0.0, 0.0
    for x, wanted in batches:
        logits = student(x)
        loss += _difference(logits, wanted).item() * len(x)
        same += logits.argmax(1).eq(wanted.argmax(1)).sum().item()
        n += len(x)
    return Agreement(loss / n, same / n)
