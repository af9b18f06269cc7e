"""How much the units of a network changed between two looks at the same images: what velocities are made of."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kilotune.graph.layers import Side, value_of
from kilotune.graph.node import Graph, Linear
from kilotune.ops.prepare import Step
from kilotune.rng import Pcg32

_SIGN_SEED = 0
"""Signs of sketches are the same in all runs; the stream is the length of a row."""


class Similarity:
    """Cosine similarity of each unit's values at two looks, over all images and positions as one vector (NEq, section 3).

    layers, side: units are the output neurons ("output", behind the activation function) or the input channels ("input")
    of these layers. images: (n, c, h, w), the same at every look. sketch: instead of its values, keep so many sums of
    them with random signs of each unit; the similarity is then estimated (Johnson and Lindenstrauss).
    """

    def __init__(self, graph: Graph, layers: tuple[str, ...], side: Side, images: Tensor, sketch: int | None = None):
        self._images = images
        self._sketch = sketch
        self._rows: dict[str, Tensor] = {}
        self._layers: dict[str, list[str]] = {}
        self._axis: dict[str, int] = {}
        for name in layers:
            node = value_of(graph, graph.layer[name], side)
            self._layers.setdefault(node, []).append(name)
            self._axis[node] = -1 if isinstance(graph.weighted(name), Linear) else 1

    @torch.no_grad()
    def look(self, step: Step) -> dict[str, np.ndarray]:
        """Similarity (units,) of each layer to the look before, 1 for what has not changed; empty at the first look."""
        was_training = step.training
        step.eval()
        similar: dict[str, np.ndarray] = {}
        step.program.refresh()
        for node, value in step.program.watch(self._images, self._layers.keys()):
            rows = self._kept(node, value)
            if node in self._rows:
                found = _cosine(self._rows[node], rows).cpu().numpy()
                similar |= dict.fromkeys(self._layers[node], found)
            self._rows[node] = rows
        step.train(was_training)
        return similar

    def _kept(self, node: str, value: Tensor) -> Tensor:
        """Rows of length 1, or 0 where a unit is silent, (units, n h w); or their sketch."""
        rows = normalize(value.movedim(self._axis[node], 0).flatten(1).float())
        if self._sketch is None:
            return rows
        return rows @ _signs(self._sketch, rows.shape[1]).to(rows.device).T / self._sketch**0.5


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """From the distance of rows of length 1, which is exact where they are equal; 0 if only one of the two is silent."""
    silent = (a == 0).all(1) != (b == 0).all(1)
    return torch.where(silent, 0.0, 1 - (a - b).square().sum(1) / 2)


@cache
def _signs(n_sums: int, length: int) -> Tensor:
    """Random signs (n_sums, length)."""
    rng = Pcg32(_SIGN_SEED, length)
    words = np.array([rng.next_u32() for _ in range(-(-n_sums * length // 32))], dtype="<u4")
    bits = np.unpackbits(words.view(np.uint8))[: n_sums * length]
    return torch.from_numpy(2.0 * bits.reshape(n_sums, length) - 1).float()
