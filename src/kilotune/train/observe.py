"""Gradient norms of the trained channels, averaged over the steps since the last draw."""

import numpy as np
import torch


class MeanNorms:
    """Running mean over steps of each trained channel's gradient norm (MeDyate, Eq. 6), per layer ``(k,)``.

    A step whose gradients overflowed (float16 before the scale settles) is left out.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._steps: torch.Tensor | int = 0
        self.seen = False

    def add(self, norms: dict[str, torch.Tensor]) -> None:
        """Take in the norms of one step."""
        if not norms:
            return
        usable = torch.stack([norm.isfinite().all() for norm in norms.values()]).all()
        for layer, norm in norms.items():
            self._sums[layer] = self._sums.get(layer, torch.zeros_like(norm)) + torch.where(usable, norm, 0.0)
        self._steps = self._steps + usable
        self.seen = True

    def mean(self) -> dict[str, np.ndarray]:
        """The means, as numpy arrays; empty if no step was usable."""
        steps = int(self._steps)
        return {layer: (total / steps).cpu().numpy() for layer, total in self._sums.items()} if steps else {}
