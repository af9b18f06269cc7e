"""The random numbers with which a device rounds, for PyTorch: both then keep the same whole numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kilotune.codegen.keeping import noise_seed
from kilotune.ops.prepare import Step
from kilotune.rng import Pcg32

_BITS = 24


@dataclass
class Seen:
    """Samples that a step has trained on, as the device counts them."""

    n: int = 0

    def __call__(self, step: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        """A forward hook."""
        self.n += inputs[0].shape[0] * logits.requires_grad


@dataclass(frozen=True)
class DeviceNoise:
    """``ops.place.Memory.noise`` of one layer, one sample at a time. seed: its ``noise_seed``."""

    seed: int
    seen: Seen

    def __call__(self, like: Tensor) -> Tensor:
        """Uniform numbers on [0, 1) of 24 bits, in the shape of ``like``."""
        words = Pcg32(self.seed + self.seen.n).words(like.numel()) >> (32 - _BITS)
        return torch.from_numpy(words.astype("float32")).mul_(2.0**-_BITS).view(like.shape).to(like)


def round_as_device(step: Step, layers: tuple[str, ...], seed: int) -> None:
    """Let ``step`` round inputs with the numbers of a device that has trained on nothing yet.

    layers: in the order of the device's table (``Program.slices``); seed: of the export.
    """
    seen = Seen()
    step.register_forward_hook(seen)
    for name, memory in step.memories.items():
        memory.noise = DeviceNoise(noise_seed(seed, layers.index(name)), seen)
