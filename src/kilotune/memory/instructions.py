"""What streaming a block costs: instructions of a Cortex-M4F beyond those of the same block run plainly.

The kernels compute the same products either way; streamed, rows are short and filters are read anew for each of them. The rates
are fitted to counts of emulated firmware with float32 weights (``benchmarks/stream_cost.py``).
"""

from math import isqrt, prod

from kilotune.memory.segments import Block, Mode

FORWARD = {"products": 1.13, "row_outputs": 49.0, "row_inputs": 45.0, "row_taps": 31.0, "fetched": 11.2, "again": 4.28}
"""Instructions for each of ``forward_terms``."""

BACKWARD = {"products": 1.15, "middle": 17.0, "inputs": 48.0, "row_taps": 41.0}
"""Instructions for each of ``backward_terms``."""


def extra_forward(block: Block, mode: Mode) -> int:
    """Instructions of the forward pass beyond the plain one."""
    return _sum(FORWARD, forward_terms(block, mode))


def extra_backward(block: Block) -> int:
    """The same of the backward pass, which always goes by channels."""
    return _sum(BACKWARD, backward_terms(block))


def forward_terms(block: Block, mode: Mode) -> dict[str, int]:
    """What the cost grows with.

    products: multiply-adds of the projection. row_outputs, row_inputs: outputs of the projection and inputs of the head, each
    once per row and few channels. row_taps: rows of depthwise filters. fetched: numbers of the source that come in rows.
    again: multiply-adds of middle rows made again.
    """
    rows = block.out_hw[0]
    _, c, h, w = block.source.output.shape
    outputs = block.projection.output.shape[1]
    return {
        "products": block.mid * outputs * prod(block.out_hw),
        "row_outputs": block.groups * rows * outputs,
        "row_inputs": block.groups * block.mid_hw[0] * c if block.head else 0,
        "row_taps": block.mid * rows * isqrt(block.taps),
        "fetched": 0 if mode == "channels" else c * h * w,
        "again": block.extra_macs(mode),
    }


def backward_terms(block: Block) -> dict[str, int]:
    """What the cost grows with.

    products: multiply-adds of the head. middle: middle values. inputs: inputs of the head, once per few channels.
    row_taps: rows of depthwise filters.
    """
    inputs = block.source.output.shape[1] if block.head else 0
    return {
        "products": prod(block.head_conv.weight_shape) * prod(block.mid_hw) if block.head_conv else 0,
        "middle": block.mid * prod(block.mid_hw),
        "inputs": block.groups * inputs,
        "row_taps": block.mid * block.out_hw[0] * isqrt(block.taps),
    }


def _sum(rates: dict[str, float], terms: dict[str, int]) -> int:
    return round(sum(rates[name] * n for name, n in terms.items()))
