"""Images and labels in memory, and every seeded choice made among them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kilotune.errors import DataError
from kilotune.rng import Pcg32

Progress = Callable[[int, int], None]
"""Called with (done, total), in images or in bytes."""

# Streams of the portable generator; those from 0 up number the epochs of a training run.
_SPLIT_STREAM = 1 << 40
_SUBSET_STREAM = 1 << 41


@dataclass(frozen=True, eq=False)
class Split:
    """Images ``(n, c, h, w)`` uint8, or texts ``(n, t)`` of int64 token ids, at least one, and labels ``(n,)`` int64.

    Raises DataError for anything else.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self):
        is_image = self.images.dtype == torch.uint8 and self.images.ndim == 4
        if not (is_image or (self.is_text and self.images.ndim == 2)) or not self.images.numel():
            raise DataError(
                "images must be uint8 (n, c, h, w) and texts int64 token ids (n, t), at least one; got "
                f"{self.images.dtype} {tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be int64 ({len(self.images)},), one per image; got {self.labels.dtype} "
                f"{tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_text(self) -> bool:
        """Whether the examples are texts of token ids."""
        return self.images.dtype == torch.int64

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return self.images.nbytes

    def select(self, indices: Tensor) -> "Split":
        """The images at ``indices``, in that order."""
        return Split(self.images[indices], self.labels[indices])

    def take(self, n: int, seed: int) -> "Split":
        """At most ``n`` images, shuffled, balanced over the classes as far as these reach; the same for a seed."""
        return self.select(balanced(self.labels, n, seed))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits that share their classes and image shape. Raises DataError if a label has no class or shapes differ."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    val: Split | None = None

    def __post_init__(self):
        for part, split in self.splits.items():
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.n_classes:
                raise DataError(
                    f"{self.name}: {part} labels run from {low} to {high}, but there are {self.n_classes} classes, "
                    f"so they must lie in 0..{self.n_classes - 1}"
                )
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"{self.name}: {part} images are {tuple(split.images.shape[1:])} but train images are "
                    f"{tuple(self.train.images.shape[1:])} (c, h, w); bring them to one shape"
                )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator that depends on (seed, stream) alone; close seeds and streams give unrelated draws."""
    pcg = Pcg32(seed, stream)
    return torch.Generator().manual_seed(pcg.next_u32() << 31 | pcg.next_u32() >> 1)


def balanced(labels: Tensor, n: int, seed: int) -> Tensor:
    """Indices of at most ``n`` of the images, one of every class in turn, in random order within a turn.

    Raises DataError for ``n`` < 1.
    """
    if n < 1:
        raise DataError(f"asked for {n} images; ask for at least one")
    order = torch.randperm(len(labels), generator=generator(seed, _SUBSET_STREAM))
    turn = _rank_in_class(labels[order])
    return order[turn.argsort(stable=True)[:n]]


def split_by_seed(labels: Tensor, test_share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (train, test), both increasing; every class gives ``test_share`` of its images, at least one, to test."""
    order = torch.randperm(len(labels), generator=generator(seed, _SPLIT_STREAM))
    n_test = (labels.bincount() * test_share).round().clamp(min=1)
    shuffled = labels[order]
    in_test = torch.zeros(len(labels), dtype=torch.bool)
    in_test[order] = _rank_in_class(shuffled) < n_test[shuffled]
    return (~in_test).nonzero().flatten(), in_test.nonzero().flatten()


def _rank_in_class(labels: Tensor) -> Tensor:
    """How many earlier images have the same label, for each image."""
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    by_class = labels.argsort(stable=True)
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - first[labels[by_class]]
    return rank
