"""What autograd really keeps from forward to backward, by saved-tensor hooks: the check on every predicted byte."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def saved_bytes(module: nn.Module, x: Tensor, y: Tensor, loss: Loss = F.cross_entropy) -> int:
    """Bytes that ``loss(module(x), y)`` keeps for backward: unique storages, parameters and the input image excluded.

    module: what ``prepare`` returned, or any module (its own ledger is then PyTorch's). x: (n, ...), y: (n,).
    """
    resident = {tensor.untyped_storage().data_ptr() for tensor in (x, *_parameters(module))}
    with _recording() as kept:
        result = loss(module(x), y)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    del result
    return sum(nbytes for pointer, nbytes in storages.items() if pointer not in resident)


def saved_by_layer(step: Any, x: Tensor, y: Tensor) -> dict[str, int]:
    """The same for what ``prepare`` returned, by layer; the loss is the entry ``"loss"``."""
    with _recording() as tensors:
        logits = step(x)
    by_layer: dict[str, int] = {}
    for kept, tensor in zip(step.program.kept, tensors, strict=True):
        if kept.counted:
            by_layer[kept.layer] = by_layer.get(kept.layer, 0) + tensor.untyped_storage().nbytes()
    del logits
    return {**by_layer, "loss": saved_bytes(step, x, y) - sum(by_layer.values())}


@contextmanager
def _recording() -> Iterator[list[Tensor]]:
    """Collects the tensors kept for backward; holding them stops their memory from being used again meanwhile."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _parameters(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    inner = getattr(module, "model", None)
    if isinstance(inner, nn.Module):
        yield from inner.parameters()
