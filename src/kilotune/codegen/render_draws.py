"""How the device draws, as C text: what ``kt_dynamic.c`` leaves open, by the function that draws."""

from kilotune.codegen.drawing import Drawing
from kilotune.codegen.program import Draws
from kilotune.codegen.render import argument, body, fill

_DRAW = {
    "uniform": "kt_draw_uniform(&candidates, &present.rng, &drawn, kt_arena);",
    "medyate": "kt_draw_medyate(&candidates, norms, &present.rng, &drawn, kt_arena);",
    "cyclic": "kt_draw_cyclic(&candidates, @counts@, order, cursor, &present.rng, &drawn, kt_arena);",
    "strided": "kt_draw_strided(&candidates, @counts@, stride, cursor, &present.rng, &drawn, kt_arena);",
    "anew": "kt_draw_anew(&candidates, counts, &present.rng, &drawn, kt_arena);",
}
_NOT_BEGUN = "for (int l = 0; l < KT_POOL; l++) {\n        cursor[l] = KT_NOT_BEGUN;\n    }"
_FORGET = {
    "medyate": "for (int i = 0; i < @n_channels@; i++) {\n        norms[i] = -1.0f;\n    }",
    "cyclic": _NOT_BEGUN,
    "strided": _NOT_BEGUN,
}
_MEMORY = {
    "medyate": "static float *const norms = @memory@;",
    "cyclic": "static uint16_t *const order = (uint16_t *)(@memory@), *const cursor = (uint16_t *)(@memory@) + @walk@;",
    "strided": "static uint16_t *const stride = (uint16_t *)(@memory@), *const cursor = (uint16_t *)(@memory@) + @walk@;",
}
_TURN = "static uint16_t *const turn = (uint16_t *)(@memory@) + @walk@ + KT_POOL;"
_NEXT_TURN = "    *turn = (uint16_t)((*turn + 1u) % @n_turns@u);"


def draw_fields(draws: Draws) -> dict[str, str]:
    """What ``kt_dynamic.c`` leaves open, as text."""
    drawing = draws.drawing
    memory = {
        "memory": argument(draws.memory),
        "n_channels": str(drawing.n_channels),
        "walk": str(drawing.walk_elements),
    }
    passing = "" if draws.passing is None else f"    kt_slices[KT_POOL].gradient = {argument(draws.passing)};"
    return {
        "tables": fill(_draw_tables(drawing), memory),
        "n_channels": str(drawing.n_channels),
        "size": str(drawing.size),
        "max_channels": str(drawing.max_channels),
        "slices_top": str(draws.slices_top.offset // 4),
        "copies": str(draws.copies),
        "weight_bytes": str(draws.weight_bytes),
        "passing": passing,
        "draw": _draw_lines(drawing),
        "initial": body(draws.initial),
        "seed": str(drawing.seed),
        "forget": fill(f"    {_FORGET.get(drawing.function, '')}", memory).rstrip(),
        "observed": "    kt_norms_mean(&candidates, &drawn, present.n_steps, norms);"
        if drawing.function == "medyate"
        else "",
    }


def _draw_tables(drawing: Drawing) -> str:
    """What draws choose from, and where their memory lies."""
    tables = {"channels": drawing.channels, "cost": drawing.cost}
    tables |= {} if drawing.counts is None else {"counts": drawing.counts.reshape(-1)}
    arrays = [
        f"static const {'uint32_t' if name == 'cost' else 'uint16_t'} {name}[] = {{{', '.join(map(str, values.tolist()))}}};"
        for name, values in tables.items()
    ]
    return "\n".join([*arrays, _MEMORY.get(drawing.function, ""), *([_TURN] * (drawing.n_turns > 1))])


def _draw_lines(drawing: Drawing) -> str:
    """The call that draws; with turns, of the layers whose turn it is."""
    turns = drawing.n_turns > 1
    call = fill(f"    {_DRAW[drawing.function]}", {"counts": "counts + KT_POOL * *turn" if turns else "counts"})
    return "\n".join([call, *([fill(_NEXT_TURN, {"n_turns": str(drawing.n_turns)})] * turns)])
