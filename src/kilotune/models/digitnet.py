"""The demo's backbone: a MobileNetV2 of 35 thousand parameters, pretrained by ``benchmarks/pretrain_digitnet.py``."""

from safetensors import safe_open

from kilotune.models.inverted import Architecture, Block
from kilotune.models.mobilenet_v2 import MobileNetV2
from kilotune.models.weights import SHIPPED, load_into, read

ARCHITECTURE = Architecture(
    stem=16,
    blocks=(Block(3, 1, 64, 16), Block(3, 2, 64, 24), Block(3, 1, 96, 24), Block(3, 2, 96, 32), Block(3, 1, 128, 32)),
    mix=128,
)
CLASSES = 10
CHECKPOINT = SHIPPED["digitnet"]


def digitnet(classes: int = CLASSES, folded: bool = False) -> MobileNetV2:
    """The network ``(n, 3, 32, 32) -> (n, classes)`` with random weights."""
    return MobileNetV2(ARCHITECTURE, classes, dropout=0.0, folded=folded)


def pretrained_digitnet() -> MobileNetV2:
    """The network with the committed weights, in evaluation mode; raises WeightsError if they are damaged.

    It reads ``(pixel / 255 - 0.5) / 0.5``.
    """
    model = digitnet()
    load_into(model, read("digitnet"))
    return model.eval()


def checkpoint_facts() -> dict[str, str]:
    """How the committed weights came about: ``accuracy_test`` (a share, unshifted digits), seed, epochs, torch."""
    with safe_open(CHECKPOINT, framework="numpy") as file:
        return dict(file.metadata())
