"""From uint8 batches to the network's input, on the device of the batch and without a loop over its images.

Every augmentation draws one box per image; one resampling then cuts the boxes out, resizes them and flips some. It is
bilinear with antialiasing, to the values Pillow computes (``grid_sample`` does not antialias, and
``interpolate(antialias=True)`` of torch 2.13 is wrong for images one pixel wide): each axis is a product with a matrix
of triangle weights, so a whole batch with different boxes is two batched matrix products.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kilotune.errors import DataError

_N_ATTEMPTS = 10


@dataclass(frozen=True)
class Augment:
    """How images become the input of a network: ``((resized / 255) - mean) / std``, augmented in training.

    size: side of the input, or its (h, w).
    kind: a row of AUGMENTATIONS.
    mean, std: one for all channels, or one for each.
    crop_scale, ratio: area (share of the image) and aspect (w / h) of a "crop".
    padding: share of the side by which "shift" moves at most.
    flip: probability of a horizontal flip.
    Raises DataError if these contradict themselves, or if images are not uint8.
    """

    size: int | tuple[int, int]
    kind: str = "crop"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    crop_scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    padding: float = 1 / 8
    flip: float = 0.5

    def __post_init__(self):
        if self.kind not in AUGMENTATIONS:
            raise DataError(f"augmentation {self.kind!r} is unknown; choose {', '.join(AUGMENTATIONS)}")
        if min(self.hw) < 1 or min(self.std) <= 0:
            raise DataError(f"size and std must be positive; got {self.size} and {self.std}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(
                "crop_scale must be two increasing shares in (0, 1] and ratio two increasing positive numbers; "
                f"got {self.crop_scale} and {self.ratio}"
            )
        if not 0 <= self.padding < 1 or not 0 <= self.flip <= 1:
            raise DataError(f"padding must lie in [0, 1) and flip in [0, 1]; got {self.padding} and {self.flip}")

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Float32 ``(n, c, h, w)`` of uint8 images, augmented on their device with draws of the CPU ``generator``."""
        _check_uint8(images)
        return self._normalise(AUGMENTATIONS[self.kind](self, images, generator))

    def evaluate(self, images: Tensor) -> Tensor:
        """Float32 ``(n, c, h, w)`` of uint8 images, resized if they are of another size."""
        _check_uint8(images)
        return self._normalise(_whole(self, images))

    def bytes(self, images: Tensor) -> Tensor:
        """The same before the normalisation: uint8 ``(n, c, h, w)``, resized if they are of another size and rounded."""
        _check_uint8(images)
        return _whole(self, images).round().clamp(0, 255).to(torch.uint8)

    def _normalise(self, resized: Tensor) -> Tensor:
        mean, std = (resized.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return resized.div_(255).sub_(mean).div_(std)


def resample(images: Tensor, boxes: Tensor, flipped: Tensor, hw: tuple[int, int]) -> Tensor:
    """One box of each image resized to ``hw``, mirrored where ``flipped`` ``(n,)``; float32 with values in 0..255.

    boxes: ``(n, 4)`` = (top, left, height, width) in whole pixels, inside the image. One box and one flip do for all.
    """
    boxes = boxes.to(images.device, torch.float32)
    rows = _triangle_weights(boxes[:, 0], boxes[:, 2], hw[0], images.shape[2])
    columns = _triangle_weights(boxes[:, 1], boxes[:, 3], hw[1], images.shape[3])
    columns = torch.where(flipped.to(images.device).view(-1, 1, 1), columns.flip(1), columns)
    return rows[:, None] @ (images.float() @ columns[:, None].transpose(2, 3))


def _triangle_weights(start: Tensor, extent: Tensor, size: int, length: int) -> Tensor:
    """Matrices ``(n, size, length)`` resizing pixels ``start .. start + extent`` of ``length``; rows sum to 1."""
    start, extent = start.view(-1, 1, 1), extent.view(-1, 1, 1)
    scale = extent / size
    pixel = torch.arange(length, device=start.device) - start
    centre = (torch.arange(size, device=start.device).view(-1, 1) + 0.5) * scale
    distance = (pixel + 0.5 - centre).abs_().div_(scale.clamp(min=1))
    weights = distance.neg_().add_(1).clamp_(min=0).mul_((pixel >= 0) & (pixel < extent))
    return weights.div_(weights.sum(2, keepdim=True))


def _random_crop(augment: Augment, images: Tensor, generator: torch.Generator) -> Tensor:
    """Random resized crop (Szegedy et al. 2015, section 6; ten attempts as in torchvision and timm)."""
    boxes = crop_boxes(len(images), images.shape[2:], augment.crop_scale, augment.ratio, generator)
    return resample(images, boxes, _flips(augment, len(images), generator), augment.hw)


def _shift(augment: Augment, images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad with black and cut the original size out anywhere (He et al. 2016, section 4.2)."""
    n, _, h, w = images.shape
    pad_h, pad_w = int(h * augment.padding), int(w * augment.padding)
    top = torch.randint(2 * pad_h + 1, (n,), generator=generator)
    left = torch.randint(2 * pad_w + 1, (n,), generator=generator)
    boxes = torch.stack([top, left, torch.full_like(top, h), torch.full_like(top, w)], dim=1)
    padded = F.pad(images, (pad_w, pad_w, pad_h, pad_h))
    return resample(padded, boxes, _flips(augment, n, generator), augment.hw)


def _none(augment: Augment, images: Tensor, generator: torch.Generator) -> Tensor:
    return _whole(augment, images)


def _whole(augment: Augment, images: Tensor) -> Tensor:
    if tuple(images.shape[2:]) == augment.hw:
        return images.float()
    return resample(images, torch.tensor([[0, 0, *images.shape[2:]]]), torch.tensor([False]), augment.hw)


def _check_uint8(images: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise DataError(f"images to augment must be uint8, 0..255; got {images.dtype}, which may be normalised already")


def _flips(augment: Augment, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) < augment.flip


def crop_boxes(
    n: int, hw: torch.Size, crop_scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """``n`` boxes (top, left, height, width), int64, inside an image of ``hw``.

    Area uniform on ``crop_scale`` of the image, aspect w / h log-uniform on ``ratio``, place uniform; the first of ten
    attempts that fits, else the largest central box whose aspect is within ``ratio``.
    """
    h, w = hw
    area = h * w * _uniform(crop_scale, (n, _N_ATTEMPTS), generator)
    aspect = _uniform((math.log(ratio[0]), math.log(ratio[1])), (n, _N_ATTEMPTS), generator).exp()
    heights = (area / aspect).sqrt().round().long()
    widths = (area * aspect).sqrt().round().long()
    fits = (heights >= 1) & (heights <= h) & (widths >= 1) & (widths <= w)
    first = fits.int().argmax(1, keepdim=True)
    central = torch.tensor(_central_hw(h, w, ratio))
    found = fits.any(1)
    height = torch.where(found, heights.gather(1, first)[:, 0], central[0])
    width = torch.where(found, widths.gather(1, first)[:, 0], central[1])
    place = torch.rand(2, n, generator=generator, dtype=torch.float64)
    top = torch.where(found, (place[0] * (h - height + 1)).long(), (h - height) // 2)
    left = torch.where(found, (place[1] * (w - width + 1)).long(), (w - width) // 2)
    return torch.stack([top, left, height, width], dim=1)


def _central_hw(h: int, w: int, ratio: tuple[float, float]) -> tuple[int, int]:
    aspect = min(max(w / h, ratio[0]), ratio[1])
    return min(h, max(1, round(w / aspect))), min(w, max(1, round(h * aspect)))


def _uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


AUGMENTATIONS: dict[str, Callable[[Augment, Tensor, torch.Generator], Tensor]] = {
    "crop": _random_crop,
    "shift": _shift,
    "none": _none,
}
