"""How each way of keeping works on tensors: a row per way of ``graph.ways``, which has its size."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from kilotune.ops import cells, low_rank, patches, rows
from kilotune.ops.low_rank_grad import svd_grad, tucker_grad
from kilotune.ops.place import Place

Parts = list[Tensor]


@dataclass(frozen=True)
class Row:
    """What is kept of an input, and what the backward pass makes of it.

    n_parts: tensors kept, given the number of modes. compress: the whole input as these parts, followed by those that
    stay from step to step. weight_grad: (place, parts, dL/dy) -> gradient of the trained slice, channel-major.
    input_grad: (place, weight, dL/dy, shape) -> dL/dx, where it is not the layer's own.
    """

    n_parts: Callable[[int], int]
    compress: Callable[[Tensor, Place], Parts]
    weight_grad: Callable[[Place, Parts, Tensor], Tensor]
    input_grad: Callable[[Place, Tensor | None, Tensor, tuple[int, ...]], Tensor] | None = None

    def keep(self, x: Tensor, place: Place) -> tuple[Parts, Parts]:
        """(what is handed from forward to backward, what stays)."""
        place.memory.seen += 1
        parts = self.compress(x, place)
        n_parts = self.n_parts(len(place.compressed.modes.sizes))
        return parts[:n_parts], parts[n_parts:]


def _restored(restore: Callable[[Parts, Place, Tensor], Tensor]) -> Callable[[Place, Parts, Tensor], Tensor]:
    def weight_grad(place: Place, parts: Parts, dy: Tensor) -> Tensor:
        return place.live_grad(restore(parts, place, dy), dy)

    return weight_grad


WAYS: dict[str, Row] = {
    "int8": Row(lambda n_modes: 2, rows.quantise, _restored(rows.dequantise)),
    "int4": Row(lambda n_modes: 2, rows.quantise, _restored(rows.dequantise)),
    "svd": Row(lambda n_modes: 2, low_rank.svd, svd_grad),
    "hosvd": Row(lambda n_modes: 1 + n_modes, low_rank.hosvd, tucker_grad),
    "asi": Row(lambda n_modes: 1, low_rank.asi, tucker_grad),
    "lance": Row(lambda n_modes: 1, low_rank.lance, tucker_grad),
    "filter": Row(lambda n_modes: 1, patches.patch_sums, patches.patch_weight_grad, patches.patch_input_grad),
    "prune": Row(lambda n_modes: 2, rows.prune, _restored(rows.unprune)),
    "pattern": Row(lambda n_modes: 2, cells.keep_pattern, _restored(cells.restore_pattern)),
}
