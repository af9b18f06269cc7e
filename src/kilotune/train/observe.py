"""Gradients of the trained channels, averaged over steps."""

import numpy as np
import torch


class StepMean:
    """Running mean over steps of one tensor per layer: gradient norms (k,) (MeDyate, Eq. 6), or gradients.

    A step with anything that is not finite (float16 before the scale settles) is left out.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._steps: torch.Tensor | int = 0

    def add(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take in the tensors of one step."""
        if not tensors:
            return
        usable = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).all()
        for layer, tensor in tensors.items():
            self._sums[layer] = self._sums.get(layer, torch.zeros_like(tensor)) + torch.where(usable, tensor, 0.0)
        self._steps = self._steps + usable

    def mean(self) -> dict[str, np.ndarray]:
        """The means, as numpy arrays; empty if no step was usable."""
        steps = int(self._steps)
        return {layer: (total / steps).cpu().numpy() for layer, total in self._sums.items()} if steps else {}


def row_norms(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """L2 norm (k,) of each channel of channel-major gradients (k, ...), by layer."""
    return {layer: np.linalg.norm(rows.reshape(len(rows), -1), axis=1) for layer, rows in gradients.items()}
