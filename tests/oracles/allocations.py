"""Most bytes of fresh tensors that are alive at once: every storage an operator returns, until nobody holds it."""

import weakref
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Counts storages that are not those of ``known`` tensors."""

    def __init__(self, known):
        super().__init__()
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage):
        key, nbytes = storage._cdata, storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.now += nbytes
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, nbytes)

    def _free(self, key, nbytes):
        self.seen.discard(key)
        self.now -= nbytes


def peak_bytes(run: Callable[[], object], known: list[torch.Tensor]) -> int:
    """Most bytes alive at once while ``run`` runs, its result included, tensors ``known`` before it excluded."""
    with Allocations(known) as allocations:
        result = run()
    del result
    return allocations.peak
