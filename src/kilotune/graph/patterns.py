"""The kernel patterns: which taps a pruned spatial kernel keeps. A kernel is then the number of its pattern and the values there.

Every pattern of a k x k kernel, k = 2 r + 1, has (r + 1)^2 taps, the centre among them: four squares with the centre in one
corner, and four triangles that widen from the centre to one side. Of a 3 x 3 kernel 4 of 9 taps stay, of 5 x 5 9 of 25, of 7 x 7
16 of 49.
"""

from collections.abc import Collection
from dataclasses import replace
from functools import cache

from kilotune.graph.node import Conv2d, Node

BUFFER = "pattern"
"""Name of the tensor (o, c/groups), uint8, that a patterned convolution has beside its weight: the pattern of each kernel."""


def has_patterns(kernel: tuple[int, ...]) -> bool:
    """Whether there are patterns for a kernel: it is square, of odd size, and more than a point."""
    return len(kernel) == 2 and kernel[0] == kernel[1] > 1 and kernel[0] % 2 == 1


@cache
def patterns(side: int) -> tuple[tuple[int, ...], ...]:
    """The taps of each pattern of a ``side`` x ``side`` kernel, as places in the flattened kernel, increasing.

    >>> patterns(3)[0], patterns(3)[4]
    ((0, 1, 3, 4), (0, 1, 2, 4))
    """
    reach = side // 2
    near = range(reach + 1)
    square = [(row, column) for row in near for column in near]
    triangle = [(reach - far, reach + aside) for far in near for aside in range(-far, far + 1)]
    found = []
    for shape in (square, triangle):
        for _ in range(4):
            found.append(tuple(sorted(row * side + column for row, column in shape)))
            shape = [(column, side - 1 - row) for row, column in shape]  # a quarter turn
    return tuple(found)


def n_taps(side: int) -> int:
    """Taps that every pattern of a ``side`` x ``side`` kernel keeps."""
    return (side // 2 + 1) ** 2


def mark_patterns(nodes: tuple[Node, ...], tensors: Collection[str]) -> tuple[Node, ...]:
    """The nodes, in which every convolution beside whose weight there is a tensor of patterns knows it by name."""

    def marked(node: Node) -> Node:
        if not isinstance(node.op, Conv2d):
            return node
        name = f"{node.op.weight.removesuffix('weight')}{BUFFER}"
        return replace(node, op=replace(node.op, pattern=name)) if name in tensors else node

    return tuple(map(marked, nodes))
