"""The arena as an SVG picture: steps across, bytes up, a rectangle for each buffer, kept channels above."""

from collections.abc import Iterator
from html import escape

from kilotune.memory.ledger import Layout
from kilotune.report.picture import step_name
from kilotune.units import format_bytes
from kilotune.update_plan import UpdatePlan

COLORS = {
    "input": "#999999",
    "activation": "#0072b2",
    "mask": "#56b4e9",
    "gradient": "#d55e00",
    "scratch": "#f0e442",
    "kept": "#009e73",
}
_WIDTH, _HEIGHT, _MARGIN = 960, 480, 24


def arena_svg(layout: Layout, plan: UpdatePlan) -> str:
    """The fixed buffers at their offsets, the stack of kept channels of ``plan`` from the top; names are shown by hovering."""
    stack, working = layout.stack(plan), layout.scratch(plan)
    top = max(int((layout.arena.extent + stack).max()), 1)
    across, up = _WIDTH / max(len(stack), 1), _HEIGHT / top
    parts = (("kept", stack - working, 0 * stack), ("scratch", working, stack - working))
    drawn = (
        (kind, step, 1, top - int(n + above[step]), int(n), step_name(layout, step))
        for kind, nbytes, above in parts
        for step, n in enumerate(nbytes)
        if n
    )
    shapes = [_rectangle(*one, across, up) for one in (*_buffers(layout), *drawn)]
    height = _HEIGHT + 2 * _MARGIN
    title = f"{layout.graph.model}: {format_bytes(top)} in {len(stack)} steps; kept channels from the top"
    legend = [
        f'<rect x="{90 * i}" y="{height - 14}" width="10" height="10" fill="{color}"/>'
        f'<text x="{90 * i + 14}" y="{height - 5}">{kind}</text>'
        for i, (kind, color) in enumerate(COLORS.items())
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="11">',
            f'<text x="0" y="14">{escape(title)}</text>',
            *shapes,
            *legend,
            "</svg>\n",
        ]
    )


def _buffers(layout: Layout) -> Iterator[tuple[str, int, int, int, int, str]]:
    for buffer, offset in zip(layout.arena.buffers, layout.arena.offsets, strict=True):
        yield buffer.kind, buffer.first, buffer.last - buffer.first + 1, offset, buffer.nbytes, buffer.name


def _rectangle(
    kind: str, first: int, n_steps: int, offset: int, nbytes: int, name: str, across: float, up: float
) -> str:
    y = _MARGIN + _HEIGHT - (offset + nbytes) * up
    return (
        f'<rect x="{first * across:.2f}" y="{y:.2f}" width="{n_steps * across:.2f}" height="{nbytes * up:.2f}" '
        f'fill="{COLORS[kind]}" stroke="#ffffff" stroke-width="0.3">'
        f"<title>{escape(name)}: {nbytes:,} B at {offset:,}</title></rect>"
    )
