"""Which parts of a network can be streamed, and how many numbers their line buffers have."""

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilotune.memory.segments import LANES, Segment, chain_from_input, find_blocks
from tests.oracles.blocks import BlockShape, captured_blocks, shapes
from tests.oracles.zoo import captured_published


@pytest.fixture(scope="module")
def mobilenet():
    return captured_published("mobilenet_v2_w0.35")


def test_blocks_of_mobilenet(mobilenet):
    """Seventeen inverted residual blocks, the stem being the head of the first; ten of them end with a sum."""
    blocks = find_blocks(mobilenet)
    assert len(blocks) == 17
    assert sum(block.residual for block in blocks) == 10
    assert [node.op.kind for node in blocks[0].nodes] == ["conv2d", "activation", "conv2d", "activation", "conv2d"]
    assert [node.op.kind for node in blocks[2].nodes][-1] == "add"
    assert not blocks[0].is_pointwise
    assert all(block.is_pointwise for block in blocks[1:])
    assert [block.output.name for block in chain_from_input(mobilenet, blocks)] == [b.output.name for b in blocks[:2]]


@settings(max_examples=10)
@given(st.lists(shapes, min_size=1, max_size=4))
def test_no_node_is_in_two_blocks_and_nobody_reads_inside(some):
    graph = captured_blocks(some)
    blocks = find_blocks(graph)
    assert len(blocks) == len(some)
    names = [node.name for block in blocks for node in block.nodes]
    assert len(names) == len(set(names))
    for block in blocks:
        readers = {node.name for node in graph.nodes if set(node.inputs) & {*block.inner, block.source.name}}
        assert readers == {node.name for node in block.nodes}
        assert graph.output not in block.inner


@settings(max_examples=10)
@given(shapes)
def test_rows_made_again_are_counted_one_by_one(shape):
    block = find_blocks(captured_blocks([BlockShape(2, 3, 2, 4, shape.act), shape]))[1]
    height, rows = block.mid_hw[0], range(block.out_hw[0])
    made = [
        row
        for out in rows
        for row in range(out * shape.stride - shape.kernel // 2, out * shape.stride + shape.kernel // 2 + 1)
        if 0 <= row < height
    ]
    per_row = block.mid * block.mid_hw[1] * block.source.output.shape[1]
    expected = (len(made) - height) * per_row if shape.expansion else 0
    assert block.extra_macs("again") == expected
    assert block.extra_macs("lines") == block.extra_macs("channels") == 0


def test_line_buffers_of_the_first_blocks(mobilenet):
    """Padded rows of 66 for maps 64 wide: bytes by hand."""
    stem, second = find_blocks(mobilenet)[:2]
    image, between = 3 * 3 * 128, 3 * 8 * 64
    assert stem.forward_elements("lines") == 16 * 3 * 66 + LANES * (64 + 9)
    assert second.forward_elements("again") == LANES * (3 * 65 + 32 + 9)
    assert second.forward_elements("lines") == 48 * 3 * 65 + LANES * (32 + 9)
    chain = Segment((stem, second), ("lines", "again"), as_bytes=True)
    assert chain.source_elements == (image, between)
    assert chain.forward_elements == image + 16 * 3 * 66 + LANES * (64 + 9) + between + LANES * (3 * 65 + 32 + 9)
    assert stem.source_rows("again") == 7
    assert chain.extra_macs == second.extra_macs("again") == (32 * 3 - 1 - 64) * 64 * 48 * 8


def test_gradients_of_a_few_channels(mobilenet):
    """Stride 1 works in place through a ring; stride 2 has both sides."""
    blocks = find_blocks(mobilenet)
    assert blocks[2].backward_elements == LANES * 32 * 32 + 2 * 9 + 3 * 34
    assert blocks[3].backward_elements == LANES * (16 * 16 + 32 * 32) + 2 * 9
    assert prod(blocks[3].mid_hw) == 32 * 32
