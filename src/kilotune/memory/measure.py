"""What autograd really keeps from forward to backward, by saved-tensor hooks: the check on every predicted byte."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def saved_bytes(module: nn.Module, x: Tensor, y: Tensor, loss: Loss = F.cross_entropy) -> int:
    """Bytes that ``loss(module(x), y)`` keeps for backward: unique storages, parameters and the input image excluded.

    module: what ``prepare`` returned, or any module (its own ledger is then PyTorch's). x: (n, ...), y: (n,).
    """
    return sum(_unique_storages(module, x, y, loss).values())


def _unique_storages(module: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> dict[int, int]:
    resident = {tensor.untyped_storage().data_ptr() for tensor in _resident(module)} | {x.untyped_storage().data_ptr()}
    alive: list[Tensor] = []  # storages must not be freed and reused while we count

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = loss(module(x), y)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
    del result
    return {pointer: nbytes for pointer, nbytes in storages.items() if pointer not in resident}


def _resident(module: nn.Module):
    yield from module.parameters()
    if hasattr(module, "model"):
        yield from module.model.parameters()


def saved_by_layer(step: nn.Module, x: Tensor, y: Tensor) -> dict[str, int]:
    """The same for what ``prepare`` returned, by layer; the loss is the entry ``"loss"``."""
    order: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        order.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = step(x)
        names = step.program.kept_names
        by_layer: dict[str, int] = {}
        for name, nbytes in zip(names, order, strict=True):
            kept = next(kept for kept in step.program.step_graph.kept if kept.name == name)
            if kept.counted:
                by_layer[kept.layer] = by_layer.get(kept.layer, 0) + nbytes
        total = saved_bytes(step, x, y)
        del logits
    by_layer["loss"] = total - sum(by_layer.values())
    return by_layer
