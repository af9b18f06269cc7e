"""Parts of a network that can run without their widest values: blocks of a head, a depthwise and a projecting convolution.

The middle channels of such a block are independent of each other until they are summed up by the projection, and a row of
them needs few rows of the source. So they are made, used and forgotten a few at a time. A ``Segment`` says in which order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from kilotune.graph import node as ops
from kilotune.graph.node import Conv2d, Graph, Node
from kilotune.memory.rings import is_depthwise, ring_elements, rows_in_place, turned

LANES = 4
"""Middle channels that are in work at once: the rows of one panel of the kernels."""

STREAMABLE = ("relu", "relu6")
"""Activation functions of streamed blocks: they clamp, and keep one bit."""

Mode = Literal["channels", "lines", "again"]


@dataclass(frozen=True)
class Block:
    """``[head, activation,] depthwise, [activation,] projection [, activation] [, sum with the source]``.

    head: makes the middle channels from the source, None where the source has them. nodes: all of it, in forward order.
    """

    nodes: tuple[Node, ...]
    head: Node | None
    depthwise: Node
    projection: Node
    source: Node
    residual: bool

    @property
    def output(self) -> Node:
        """The last node."""
        return self.nodes[-1]

    @property
    def inner(self) -> tuple[str, ...]:
        """Values that nobody outside reads."""
        return tuple(node.name for node in self.nodes[:-1])

    @property
    def mid(self) -> int:
        """Middle channels."""
        return self.depthwise.output.shape[1]

    @property
    def lanes(self) -> int:
        """Middle channels in work at once."""
        return min(LANES, self.mid)

    @property
    def groups(self) -> int:
        """How many times ``lanes`` channels are worked on."""
        return -(-self.mid // self.lanes)

    @property
    def mid_hw(self) -> tuple[int, int]:
        """Size of the depthwise convolution's input."""
        height, width = (self.head or self.source).output.shape[2:]
        return height, width

    @property
    def out_hw(self) -> tuple[int, int]:
        """Size of its output."""
        height, width = self.depthwise.output.shape[2:]
        return height, width

    @cached_property
    def depth(self) -> Conv2d:
        """The depthwise convolution."""
        assert isinstance(self.depthwise.op, Conv2d)
        return self.depthwise.op

    @property
    def kernel_rows(self) -> int:
        """Rows of the depthwise kernel: rows of its input that one row of its output needs."""
        return self.depth.weight_shape[2]

    @cached_property
    def head_conv(self) -> Conv2d | None:
        """The convolution that makes the middle channels."""
        if self.head is None:
            return None
        assert isinstance(self.head.op, Conv2d)
        return self.head.op

    @property
    def is_pointwise(self) -> bool:
        """Whether the middle channels of a position need that position of the source only."""
        return self.head_conv is None or self.head_conv.weight_shape[2:] == (1, 1)

    def source_rows(self, mode: Mode) -> int:
        """Rows of the source that must be there for one more row: of the middle channels (lines) or of the output (again)."""
        if self.head_conv is None:
            return self.kernel_rows
        rows, step = self.head_conv.weight_shape[2], self.head_conv.stride[0]
        return rows if mode == "lines" else (self.kernel_rows - 1) * step + rows

    @property
    def ring(self) -> int:
        """Padded rows of one middle channel that the depthwise kernel covers."""
        return ring_elements(self.depth, self.mid_hw, self.out_hw)

    @property
    def taps(self) -> int:
        """Numbers of a filter of the depthwise convolution."""
        return prod(self.depth.weight_shape[2:])

    def function_behind(self, node: Node) -> Node | None:
        """The activation function behind a convolution of the block."""
        after = next(iter(self.nodes[self.nodes.index(node) + 1 :]), None)
        return after if after is not None and isinstance(after.op, ops.Activation) else None

    def forward_elements(self, mode: Mode) -> int:
        """Line buffers of the forward pass: rings of middle channels; of a few, a row behind and a filter."""
        channels = self.mid if mode == "lines" else self.lanes
        return channels * self.ring + self.lanes * (self.out_hw[1] + self.taps)

    @property
    def backward_elements(self) -> int:
        """Scratch of the backward pass: gradients of a few middle channels around the depthwise convolution, two filters.

        Where rows allow, the second overwrites the first through a ring; without a head it is that of the source.
        """
        back, behind, before = turned(self.depth), prod(self.out_hw), prod(self.mid_hw)
        ring = 0 if back is None else ring_elements(back, self.out_hw, self.mid_hw)
        in_place = back is not None and behind == before and rows_in_place(back, self.out_hw, self.mid_hw)
        apart = 0 if in_place or self.head is None else before
        return self.lanes * (behind + apart) + 2 * self.taps + ring

    def extra_macs(self, mode: Mode) -> int:
        """Multiply-adds of middle rows that are made more than once."""
        if mode != "again" or self.head_conv is None:
            return 0
        height, width = self.mid_hw
        top, step = self.depth.padding[0], self.depth.stride[0]
        made = 0
        for row in range(self.out_hw[0]):
            first = row * step - top
            made += min(first + self.kernel_rows, height) - max(first, 0)
        return (made - height) * width * self.mid * prod(self.head_conv.weight_shape[1:])


@dataclass(frozen=True)
class Segment:
    """Blocks that run as one step, without their inner values.

    modes: how each block goes through its middle channels. ``channels``: a few channels, row by row, then the next few;
    source and output are there as a whole, nothing is computed twice. ``lines``: row by row, all middle channels, in line
    buffers. ``again``: row by row; for each the rows of a few middle channels, made anew.
    Several blocks run row by row, each pulling rows of the one before; rows of what lies between them are in line buffers.
    as_bytes: whether the source is an image of bytes, of which a few rows at a time become numbers.
    """

    blocks: tuple[Block, ...]
    modes: tuple[Mode, ...]
    as_bytes: bool = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in forward order."""
        return tuple(node for block in self.blocks for node in block.nodes)

    @property
    def source(self) -> Node:
        """The value that the segment reads."""
        return self.blocks[0].source

    @property
    def output(self) -> Node:
        """The value that it makes."""
        return self.blocks[-1].output

    @property
    def source_elements(self) -> tuple[int, ...]:
        """Line buffer in front of each block: rows of its source, none where that is there as a whole."""
        return tuple(
            block.source_rows(mode) * block.source.output.shape[1] * block.source.output.shape[3]
            if place or self.as_bytes
            else 0
            for place, (block, mode) in enumerate(zip(self.blocks, self.modes, strict=True))
        )

    @property
    def forward_elements(self) -> int:
        """All line buffers of the forward pass; blocks of a chain have theirs side by side."""
        inner = sum(block.forward_elements(mode) for block, mode in zip(self.blocks, self.modes, strict=True))
        return inner + sum(self.source_elements)

    @property
    def backward_elements(self) -> int:
        """Line buffers of the backward pass, of a single block."""
        return self.blocks[-1].backward_elements

    @property
    def extra_macs(self) -> int:
        """Multiply-adds beyond those of the plain forward pass."""
        return sum(block.extra_macs(mode) for block, mode in zip(self.blocks, self.modes, strict=True))


def find_blocks(graph: Graph) -> tuple[Block, ...]:
    """All blocks of the network that can be streamed, in forward order; no node is in two of them."""
    finder = _Finder(graph)
    for node in graph.nodes:
        if is_depthwise(node) and isinstance(node.op, Conv2d) and node.op.dilation == (1, 1):
            finder.look_around(node)
    return tuple(finder.found)


def chain_from_input(graph: Graph, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks that follow each other from the image on, none with a sum, each read by the next alone.

    A function behind a projection runs plainly, so nothing follows such a block.
    """
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    chain: list[Block] = []
    for block in blocks:
        follows = block.source.name == (chain[-1].output.name if chain else graph.nodes[0].name)
        if not follows or block.residual or readers[block.source.name] != 1:
            break
        chain.append(block)
        if block.function_behind(block.projection):
            break
    return tuple(chain)


class _Finder:
    """Walks from a depthwise convolution to both sides as long as values have one reader."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in set(node.inputs):
                self.readers.setdefault(name, []).append(node)
        self.found: list[Block] = []
        self.taken: set[str] = set()

    def look_around(self, depthwise: Node) -> None:
        """Note the block of a depthwise convolution, unless something else is in the way."""
        behind = self._projection(depthwise)
        if behind is None:
            return
        before, source = self._head(depthwise)
        nodes = [*before, depthwise, *behind]
        head = before[0] if before else None
        projection = next(node for node in behind if isinstance(node.op, Conv2d))
        after = self._only_reader(nodes[-1])
        residual = (
            after is not None and isinstance(after.op, ops.Add) and set(after.inputs) == {nodes[-1].name, source.name}
        )
        if residual and after is not None:
            nodes.append(after)
        if all(reader in nodes for reader in self.readers[source.name]):
            self.found.append(Block(tuple(nodes), head, depthwise, projection, source, residual))
            self.taken |= {node.name for node in nodes}

    def _only_reader(self, node: Node) -> Node | None:
        readers = self.readers.get(node.name, [])
        return readers[0] if len(readers) == 1 and node.name != self.graph.output else None

    def _projection(self, depthwise: Node) -> list[Node] | None:
        """``[activation,] projection [, activation]`` behind the depthwise convolution."""
        activation = self._clamp(self._only_reader(depthwise))
        projection = self._only_reader(activation or depthwise)
        if projection is None or not _is_dense(projection, (1, 1)):
            return None
        last = self._clamp(self._only_reader(projection))
        return [node for node in (activation, projection, last) if node is not None]

    def _head(self, depthwise: Node) -> tuple[list[Node], Node]:
        """``head [, activation]`` before the depthwise convolution, if there is one, and the source."""
        activation = self.graph.node[depthwise.inputs[0]]
        is_activation = self._clamp(activation) is not None and self._only_reader(activation) is depthwise
        head = self.graph.node[activation.inputs[0]] if is_activation else activation
        reader = activation if is_activation else depthwise
        if not _is_dense(head) or head.name in self.taken or self._only_reader(head) is not reader:
            return [], self.graph.node[depthwise.inputs[0]]
        return [head, activation] if is_activation else [head], self.graph.node[head.inputs[0]]

    def _clamp(self, node: Node | None) -> Node | None:
        is_clamp = node is not None and isinstance(node.op, ops.Activation) and node.op.function in STREAMABLE
        return node if is_clamp else None


def _is_dense(node: Node, kernel: tuple[int, int] | None = None) -> bool:
    op = node.op
    if not isinstance(op, Conv2d) or op.groups != 1 or op.dilation != (1, 1) or op.pattern:
        return False
    return kernel is None or (op.weight_shape[2:] == kernel and op.stride == (1, 1) and not any(op.padding))
