"""Networks of ``models.json``: their description, and their tensors under the names of our models."""

from pathlib import Path
from typing import Literal

import msgspec
from torch import Tensor, nn

from kilotune.errors import WeightsError
from kilotune.models.head import find_head
from kilotune.models.inverted import Architecture, Block
from kilotune.models.layers import Padding


class EntryBlock(msgspec.Struct, frozen=True):
    """An inverted residual as ``models.json`` writes it: kernel, stride, channels inside and out."""

    k: int
    s: int
    mid: int
    out: int
    expand: bool
    residual: bool


class EntryStem(msgspec.Struct, frozen=True):
    """The first convolution as ``models.json`` writes it."""

    k: int
    s: int
    out: int


class EntryScales(msgspec.Struct, frozen=True):
    """(scale, zero point) of an operation's int8 output, and of its input where it has one."""

    y: tuple[float, int]
    x: tuple[float, int] | None = None


class Entry(msgspec.Struct, frozen=True):
    """A pretrained network of ``models.json``; ``classes`` is None for a backbone without classifier."""

    file: str
    kind: Literal["float_bn", "int8"]
    padding: Padding
    resolution: int
    mean: float
    std: float
    stem: EntryStem
    blocks: tuple[EntryBlock, ...]
    head: int | None
    classes: int | None
    bn_eps: float | None = None
    quant: dict[str, EntryScales] = {}

    @property
    def architecture(self) -> Architecture:
        """What a model must be for these weights."""
        blocks = tuple(Block(block.k, block.s, block.mid, block.out) for block in self.blocks)
        return Architecture(self.stem.out, blocks, self.head, self.padding)

    @property
    def convolutions(self) -> list[str]:
        """Names of the convolutions in forward order."""
        names = ["stem"]
        for number, block in enumerate(self.blocks):
            names += [f"blocks.{number}.{part}" for part in ("expand", "dw", "project")[0 if block.expand else 1 :]]
        return names + (["head"] if self.head else [])


def read_entries(path: Path) -> dict[str, Entry]:
    """The entries of a ``models.json`` by name. Raises WeightsError if the file is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} does not describe pretrained networks: {error}; fetch it again") from error


def to_state_dict(entry: Entry, tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The entry's tensors under the names of ``model``, which has the same architecture.

    Both list their convolutions, and the batch norms behind them, in forward order. int8 is taken back to float.
    Raises WeightsError if the file lacks a tensor.
    """
    try:
        state = _TRANSLATIONS[entry.kind](entry, tensors, model)
        found = find_head(model)
        if entry.classes and found:
            state |= {f"{found[0]}.{part}": value for part, value in _CLASSIFIERS[entry.kind](entry, tensors).items()}
    except KeyError as error:
        raise WeightsError(f"{entry.file} lacks {error}, which models.json promises; fetch the file again") from error
    return state


def _translate_float(entry: Entry, tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    state = {}
    convs, norms = _names(model, nn.Conv2d), _names(model, nn.BatchNorm2d)
    for conv, norm, name in zip(convs, norms, entry.convolutions, strict=True):
        state[f"{conv}.weight"] = tensors[f"{name}.conv.weight"]
        state |= {f"{norm}.{ours}": tensors[f"{name}.bn.{theirs}"] for ours, theirs in _NORM_PARTS.items()}
    return state


def _translate_int8(entry: Entry, tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for conv, name in zip(_names(model, nn.Conv2d), entry.convolutions, strict=True):
        state |= {f"{conv}.{part}": value for part, value in _dequantise(entry, tensors, name).items()}
    return state


def _classifier_float(entry: Entry, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {part: tensors[f"classifier.{part}"] for part in ("weight", "bias")}


def _classifier_int8(entry: Entry, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = _dequantise(entry, tensors, "classifier")
    return parts | {"weight": parts["weight"].flatten(1)}


def _dequantise(entry: Entry, tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weight (o, c, h, w) = int8 * weight_scale[o] and bias (o,) = int32 * weight_scale[o] * input scale, in float."""
    scale = tensors[f"{name}.weight_scale"]
    source = entry.quant[name].x
    if source is None:
        raise KeyError(f"{name}.x")
    # In double, because a 32-bit bias does not fit a float's mantissa.
    bias = tensors[f"{name}.bias"].double() * (scale.double() * source[0])
    return {"weight": tensors[f"{name}.weight"] * scale.view(-1, 1, 1, 1), "bias": bias.float()}


def _names(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


_NORM_PARTS = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_TRANSLATIONS = {"float_bn": _translate_float, "int8": _translate_int8}
_CLASSIFIERS = {"float_bn": _classifier_float, "int8": _classifier_int8}
