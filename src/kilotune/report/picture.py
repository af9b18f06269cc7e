"""Who lives when: the memory of one training step as text, time down, bytes across."""

import numpy as np

from kilotune.memory.ledger import Layout
from kilotune.units import format_bytes
from kilotune.update_plan import UpdatePlan

LETTERS = {"input": "i", "activation": "a", "mask": "m", "gradient": "g", "scratch": "s", "kept": "K", "free": "."}
_KINDS = tuple(LETTERS)
_NAME_WIDTH = 40


def picture(layout: Layout, plan: UpdatePlan, width: int = 64, height: int = 48) -> str:
    """A line for each step, with the kind of data that fills most of each of ``width`` equal parts of the memory.

    Fixed buffers lie at their offsets from the left, kept channels are a stack from the right. Of more than ``height``
    steps, neighbours share a line, which shows the fullest of them. The number behind it: bytes in use at that step.
    """
    stack, working = layout.stack(plan), layout.scratch(plan)
    in_use = layout.arena.extent + stack
    top = max(int(in_use.max()), 1)
    groups = np.array_split(np.arange(len(in_use)), min(height, len(in_use)))
    fullest = [int(group[in_use[group].argmax()]) for group in groups]
    names = [_shorten(step_name(layout, step)) for step in fullest]
    longest = max(map(len, names))
    lines = [
        f"{name:{longest}} {_line(layout, step, int(stack[step]), int(working[step]), top, width)} {in_use[step]:>11,}"
        for name, step in zip(names, fullest, strict=True)
    ]
    legend = ", ".join(f"{letter} {kind}" for kind, letter in LETTERS.items())
    return "\n".join([f"{legend}; each column is {format_bytes(round(top / width))}", *lines])


def step_name(layout: Layout, step: int) -> str:
    """``forward features.3.conv.0``: what happens at a step, with the module path where the node has one."""
    name = layout.timeline.names[step]
    direction, _, node = name.rpartition(" ")
    return f"{direction} {layout.graph.node[node].layer or node}" if direction else name


def _shorten(name: str) -> str:
    """Both ends tell more than either: which block, and which part of it."""
    half = _NAME_WIDTH // 2
    return name if len(name) <= _NAME_WIDTH else f"{name[: half - 1]}…{name[-half:]}"


def occupancy(layout: Layout, step: int, stack: int, top: int, width: int, working: int = 0) -> np.ndarray:
    """Bytes of each kind in each of ``width`` equal parts of ``top`` bytes at a step (kinds of ``LETTERS``, width).

    working: the lower part of the stack, which is scratch of ways of keeping.
    """
    edges = np.linspace(0, top, width + 1)
    filled = np.zeros((len(_KINDS), width))
    buffers = [
        (buffer.kind, offset, buffer.nbytes)
        for buffer, offset in zip(layout.arena.buffers, layout.arena.offsets, strict=True)
        if buffer.first <= step <= buffer.last
    ]
    for kind, start, nbytes in [
        *buffers,
        ("scratch", top - stack, working),
        ("kept", top - stack + working, stack - working),
    ]:
        overlap = np.minimum(edges[1:], start + nbytes) - np.maximum(edges[:-1], start)
        filled[_KINDS.index(kind)] += overlap.clip(min=0)
    filled[_KINDS.index("free")] = np.diff(edges) - filled.sum(0)
    return filled


def _line(layout: Layout, step: int, stack: int, working: int, top: int, width: int) -> str:
    most = occupancy(layout, step, stack, top, width, working).argmax(0)
    return "".join(LETTERS[_KINDS[kind]] for kind in most)
