"""The demo's backbone: a MobileNetV2 of 35 thousand parameters, pretrained by ``benchmarks/pretrain_digitnet.py``."""

from importlib.resources import as_file, files

from safetensors import safe_open

from kilotune.models.inverted import Architecture, Block
from kilotune.models.mobilenet_v2 import MobileNetV2
from kilotune.models.weights import load_into, read

ARCHITECTURE = Architecture(
    stem=16,
    blocks=(Block(3, 1, 64, 16), Block(3, 2, 64, 24), Block(3, 1, 96, 24), Block(3, 2, 96, 32), Block(3, 1, 128, 32)),
    mix=128,
)
CLASSES = 10
CHECKPOINT = files("kilotune.models") / "digitnet.safetensors"


def digitnet(classes: int = CLASSES) -> MobileNetV2:
    """The network ``(n, 3, 32, 32) -> (n, classes)`` with random weights."""
    return MobileNetV2(ARCHITECTURE, classes, dropout=0.0, folded=False)


def pretrained_digitnet() -> MobileNetV2:
    """The network with the committed weights, in evaluation mode; raises WeightsError if they are damaged.

    It reads ``(pixel / 255 - 0.5) / 0.5``.
    """
    model = digitnet()
    with as_file(CHECKPOINT) as path:
        load_into(model, read(str(path)))
    return model.eval()


def checkpoint_facts() -> dict[str, str]:
    """How the committed weights came about: ``accuracy_test`` (a share, unshifted digits), seed, epochs, torch."""
    with as_file(CHECKPOINT) as path, safe_open(path, framework="numpy") as file:
        return dict(file.metadata())
