"""Batches of a split on the training device, the same for the same seed and epoch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kilotune.data.augment import Augment
from kilotune.data.images import Split, generator
from kilotune.errors import DataError

# A GPU keeps the whole split if that leaves it at least half of the memory that is free.
_RESIDENT_SHARE = 0.5


class Batches:
    """Float batches ``(n, c, h, w)``, or token ids ``(n, t)``, and labels ``(n,)`` of a split, on ``device``.

    augment: None gives the examples as they are. shuffle: as training wants them: a new order each epoch, augmented, the
    incomplete last batch left out. Otherwise as evaluation does: every image once, in order, not augmented. Iterating
    goes on with ``next_epoch``, which a resumed run sets. Raises DataError for a batch size below 1.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        augment: Augment | None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        shuffle: bool = True,
    ):
        if batch_size < 1:
            raise DataError(f"batch size {batch_size} is impossible; it must be 1 at least")
        self.device = torch.device(device)
        # A training split smaller than one batch is one batch, not none.
        self.batch_size = min(batch_size, len(split))
        self.augment, self.seed, self.shuffle = augment, seed, shuffle
        self.next_epoch = 0
        self._split = split
        self._images = split.images.to(self.device) if _fits(split, self.device) else split.images

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        n_images = len(self._split)
        return n_images // self.batch_size if self.shuffle else -(-n_images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        number = self.next_epoch
        self.next_epoch += 1
        return self.epoch(number)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch ``number``, from 0; they depend on (seed, number) alone."""
        draws = generator(self.seed, number)
        n_images = len(self._split)
        order = torch.randperm(n_images, generator=draws) if self.shuffle else torch.arange(n_images)
        for chosen in order.split(self.batch_size)[: len(self)]:
            images = self._images[chosen.to(self._images.device)].to(self.device)
            yield self._input(images, draws), self._split.labels[chosen].to(self.device)

    def _input(self, images: Tensor, draws: torch.Generator) -> Tensor:
        if self.augment is None:
            return images
        return self.augment.train(images, draws) if self.shuffle else self.augment.evaluate(images)


def _fits(split: Split, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return split.nbytes <= _RESIDENT_SHARE * free_bytes
