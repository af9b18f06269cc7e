"""Pruned networks: their file says what they were pruned from, the shapes of its tensors say how wide each layer is.

Beside the weight of a convolution whose kernels were cut down to patterns there is a tensor with their numbers.
"""

from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from kilotune.errors import WeightsError
from kilotune.models.head import find_head

_KEY = "kilotune.pruned"
_PATTERN = "pattern"  # see graph.patterns
_ATTRIBUTE = "pruned"


class Pruned(msgspec.Struct, frozen=True):
    """Where a pruned network comes from: the metadata of its file.

    model: name of the network it was pruned from. resolution, mean, std: see ``models.Loaded``. settings: how it was
    pruned and trained to recover, as plain JSON data.
    """

    model: str
    resolution: int | None = None
    mean: float = 0.5
    std: float = 0.5
    settings: dict[str, Any] = {}

    @classmethod
    def of(cls, model: nn.Module) -> "Pruned | None":
        """The origin of a network that was loaded or made as a pruned one, None for any other."""
        return getattr(model, _ATTRIBUTE, None)

    def attach(self, model: nn.Module) -> nn.Module:
        """The same model, which now knows its origin."""
        setattr(model, _ATTRIBUTE, self)
        return model

    @classmethod
    def read(cls, metadata: dict[str, str], source: str) -> "Pruned | None":
        """The origin in a file's metadata, None where there is none. Raises WeightsError if it is damaged."""
        if _KEY not in metadata:
            return None
        try:
            return msgspec.json.decode(metadata[_KEY], type=cls)
        except msgspec.MsgspecError as error:
            raise WeightsError(f"the description of the pruned network {source} is damaged: {error}") from error


def metadata(model: nn.Module) -> dict[str, str]:
    """What a file of this model's tensors has to say besides them: nothing, unless it is a pruned network."""
    origin = Pruned.of(model)
    return {} if origin is None else {_KEY: msgspec.json.encode(origin).decode()}


def narrow(model: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """The same model with each layer as narrow as its tensors in a state dict; the weights stay to be loaded.

    The classifier takes as many classes as it has there, more of them too.
    Raises WeightsError for layers that are missing, wider than the model's, or of a kind that has no narrower form.
    """
    head = find_head(model)
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        found = {part: tensors.get(f"{name}.{part}" if name else part) for part in own if part != "num_batches_tracked"}
        missing = [part for part, tensor in found.items() if tensor is None]
        if missing:
            raise WeightsError(f"the pruned network lacks {name}.{missing[0]}; choose the model it was pruned from")
        shapes = {part: tuple(tensor.shape) for part, tensor in found.items() if tensor is not None}
        if any(shapes[part] != tuple(own[part].shape) for part in shapes):
            _narrow_layer(name, module, shapes, is_head=head is not None and head[1] is module)
        if f"{name}.{_PATTERN}" in tensors:
            module.register_buffer(_PATTERN, torch.zeros_like(tensors[f"{name}.{_PATTERN}"]))
    return model


def _narrow_layer(name: str, module: nn.Module, shapes: dict[str, tuple[int, ...]], is_head: bool) -> None:
    resize = next((resize for kind, resize in _RESIZE.items() if isinstance(module, kind)), None)
    own = {part: tuple(getattr(module, part).shape) for part in shapes}
    inner = 1 if is_head else 0  # the axis from which on nothing may be wider
    fits = all(
        len(shape) == len(own[part])
        and all(new <= old for new, old in zip(shape[inner:], own[part][inner:], strict=True))
        for part, shape in shapes.items()
    )
    if resize is None or not fits:
        kinds = ", ".join(kind.__name__ for kind in _RESIZE)
        raise WeightsError(
            f"{name} ({type(module).__name__}) has {own}, the pruned network {shapes}; only {kinds} become narrower, and "
            "none becomes wider: choose the model it was pruned from"
        )
    resize(module, shapes)
    for part, shape in shapes.items():
        old = getattr(module, part)
        new = torch.empty(shape, dtype=old.dtype, device=old.device)
        setattr(module, part, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _resize_conv(conv: nn.Conv2d, shapes: dict[str, tuple[int, ...]]) -> None:
    """Depthwise convolutions keep their multiplier, grouped ones their number of groups."""
    rows, columns = shapes["weight"][:2]
    if conv.groups == conv.in_channels > 1:
        conv.groups = rows // (conv.out_channels // conv.in_channels)
    conv.in_channels, conv.out_channels = columns * conv.groups, rows


def _resize_linear(linear: nn.Linear, shapes: dict[str, tuple[int, ...]]) -> None:
    linear.out_features, linear.in_features = shapes["weight"]


def _resize_norm(norm: nn.BatchNorm2d, shapes: dict[str, tuple[int, ...]]) -> None:
    norm.num_features = shapes["running_mean"][0]


_RESIZE: dict[type[nn.Module], Any] = {
    nn.Conv2d: _resize_conv,
    nn.Linear: _resize_linear,
    nn.BatchNorm2d: _resize_norm,
    nn.BatchNorm1d: _resize_norm,
}
