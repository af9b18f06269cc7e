"""How much of its input a depthwise convolution sees at once, and where its output may overwrite it; as the C kernels do."""

from kilotune.graph.node import Conv2d, Node, Op

Size = tuple[int, int]


def is_depthwise(node: Node) -> bool:
    """Whether each output channel of the node reads one input channel, and each input channel has one reader."""
    op = node.op
    return isinstance(op, Conv2d) and op.groups == op.weight_shape[0] > 1 == op.weight_shape[1]


def ring_elements(op: Conv2d, size: Size, output: Size) -> int:
    """Scratch of one channel: as many padded input rows as the kernel covers. Twin of ``kt_ring_rows * kt_ring_width``."""
    rows, reach = ((k - 1) * d + 1 for k, d in zip(op.weight_shape[2:], op.dilation, strict=True))
    return rows * max((output[1] - 1) * op.stride[1] + reach, op.padding[2] + size[1])


def rows_in_place(op: Conv2d, size: Size, output: Size) -> bool:
    """Whether every output row ends before the input rows that are not yet in the ring, all planes lying one after another."""
    if output[0] * output[1] > size[0] * size[1]:
        return False
    reach = (op.weight_shape[2] - 1) * op.dilation[0] + 1
    read = [min(size[0], row * op.stride[0] - op.padding[0] + reach) for row in range(output[0])]
    return all(n == size[0] or (row + 1) * output[1] <= n * size[1] for row, n in enumerate(read))


def turned(op: Op) -> Conv2d | None:
    """The depthwise convolution that computes the input gradient from dL/dy, filters turned by 180 degrees; None if strided."""
    assert isinstance(op, Conv2d)
    (height, width), (down, right) = op.weight_shape[2:], op.dilation
    top, left = (height - 1) * down - op.padding[0], (width - 1) * right - op.padding[2]
    if op.stride != (1, 1) or top < 0 or left < 0:
        return None
    return Conv2d(op.weight, op.weight_shape, op.bias, (1, 1), (top, 0, left, 0), op.dilation, op.groups)
