"""A ``Program`` as C text: records to characters, nothing is decided here."""

from collections.abc import Callable, Iterable
from functools import singledispatch

import numpy as np

from kilotune.codegen.program import (
    Address,
    Argument,
    Below,
    Call,
    Checked,
    Comment,
    Constant,
    EachChannel,
    IfDrawn,
    Line,
    Name,
    Place,
    Probe,
    Program,
    Restored,
    Scope,
    Struct,
)

_C_TYPES = {
    "float32": "float",
    "float16": "uint16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
}
_PER_LINE = 12


@singledispatch
def argument(item: Argument) -> str:
    """The text of an argument.

    >>> argument(Place(16)), argument(Name("bias3")), argument(0.5)
    ('kt_arena + 4', 'bias3', '0x1.0000000000000p-1f')
    """
    raise TypeError(item)


@argument.register
def _(item: int) -> str:
    return str(item)


@argument.register
def _(item: float) -> str:
    return f"{float(np.float32(item)).hex()}f"


@argument.register
def _(item: Place) -> str:
    at = f"kt_arena + {item.offset // 4}"
    return f"(uint8_t *)({at})" if item.as_bytes else at


@argument.register
def _(item: Name) -> str:
    return item.name


@argument.register
def _(item: Address) -> str:
    return f"&{item.name}"


@argument.register
def _(item: Below) -> str:
    return f"kt_slices[{item.slice}].{item.field} - {item.elements}"


def _call(line: Call) -> str:
    return f"    {line.function}({', '.join(map(argument, line.arguments))});"


def _checked(line: Checked) -> str:
    return f"    failed |= {_call(line.call).lstrip()}"


def _probe(line: Probe) -> str:
    return f"    KT_{line.what}({line.index}, {argument(line.at)}, {line.elements});"


def _comment(line: Comment) -> str:
    return f"    /* {line.text} */"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _scope(line: Scope) -> str:
    structs = "\n".join(f"    const {_table(item)}" for item in line.structs)
    return f"    {{\n{_indented(structs)}\n{_indented(body(line.lines))}\n    }}"


def _each_channel(line: EachChannel) -> str:
    of = f"&kt_slices[{line.slice}], &kt_layers[{line.slice}]"
    return (
        f"    for (int k = 0; k < kt_slices[{line.slice}].count; k++) {{\n"
        f"        const kt_slice one = kt_channel({of}, k, {argument(line.gradient)});\n"
        f"{_indented(body(line.lines))}\n    }}"
    )


def _restored(line: Restored) -> str:
    of = line.of.name
    top, most = argument(line.top), line.most
    return (
        f"    for (int j = 0; j < ({of})->count; j += {most}) {{\n"
        f"        const kt_slice some = kt_some({of}, &kt_layers[{line.number}], j, {most}, {top}, {line.n});\n"
        f"{_indented(body(line.lines))}\n    }}"
    )


def _if_drawn(line: IfDrawn) -> str:
    otherwise = f" else {{\n{_indented(body(line.otherwise))}\n    }}" if line.otherwise else ""
    return f"    if (kt_slices[{line.number}].count > 0) {{\n{_indented(body(line.lines))}\n    }}{otherwise}"


_LINES: dict[type, Callable[..., str]] = {
    Call: _call,
    Checked: _checked,
    Probe: _probe,
    Comment: _comment,
    Scope: _scope,
    EachChannel: _each_channel,
    Restored: _restored,
    IfDrawn: _if_drawn,
}


def body(lines: Iterable[Line]) -> str:
    """Statements, one line each."""
    return "\n".join(_LINES[type(line)](line) for line in lines)


def constant(item: Constant) -> str:
    """A constant array; floats in hexadecimal, which is exact."""
    values = item.values.reshape(-1)
    if item.values.dtype == np.float16:
        values = values.view(np.uint16)
    numbers = (
        [f"{x.hex()}f" for x in values.tolist()] if values.dtype == np.float32 else [str(x) for x in values.tolist()]
    )
    rows = (numbers[at : at + _PER_LINE] for at in range(0, len(numbers), _PER_LINE))
    lines = ",\n".join("    " + ", ".join(row) for row in rows)
    return f"const {_C_TYPES[str(item.values.dtype)]} {item.name}[{len(numbers)}] = {{\n{lines},\n}};\n"


def declaration(item: Constant) -> str:
    """The same as other files see it."""
    return f"extern const {_C_TYPES[str(item.values.dtype)]} {item.name}[{item.values.size}];"


def struct(item: Struct, drawn: bool = False) -> str:
    """A constant struct, or an array of them where it is a table; the slices of a device that draws are not constant."""
    if item.kind in ("kt_layer", "kt_slice"):
        return ("" if drawn and item.kind == "kt_slice" else "const ") + _table(item)
    if item.kind == "kt_block_layer":
        return f"static const {_table(item)}"
    return f"static const {item.kind} {item.name} = {_row(item.rows[0])};"


def _table(item: Struct) -> str:
    return f"{item.kind} {item.name}[] = {{\n" + "".join(f"    {_row(row)},\n" for row in item.rows) + "};"


def _row(row: tuple[Argument | str, ...]) -> str:
    return f"{{{', '.join(field if isinstance(field, str) else argument(field) for field in row)}}}"


def fields(program: Program, is_fixed: bool = True) -> dict[str, str]:
    """What the templates of ``runtime/project`` leave open, as text; is_fixed: whether the trained channels are constants."""
    return {
        "arena_bytes": str(program.arena_bytes),
        "fixed_bytes": str(program.fixed_bytes),
        "image_elements": str(program.image_elements),
        "pixel": "uint8_t" if program.image_is_bytes else "float",
        "classes": str(program.classes),
        "gradients": "summed" if program.accumulates else "applied at once",
        "declarations": "\n".join(declaration(item) for item in program.constants),
        "structs": "\n".join(struct(item, program.draws is not None or not is_fixed) for item in program.structs),
        "image": argument(program.image),
        "logits": argument(program.logits),
        "loss_gradient": argument(program.loss_gradient),
        "start": body(program.start),
        "infer": body(program.infer),
        "forward": body(program.forward),
        "backward": body(program.backward),
        "share": "    rule.share = 1.0f / (float)n_summed;" if program.accumulates else "",
        "apply": body(program.apply),
        "momentum": argument(float(program.momentum)),
        "trained": argument(program.trained[0].value) if program.trained else "kt_arena",
        "n_trained": str(sum(item.elements for item in program.trained)),
        "n_slices": str(len(program.slices)),
        "n_pool": str(len(program.draws.drawing.layers)) if program.draws else "0",
        "includes": '#include "kt_policy.h"' if program.draws else "",
        "accumulates": str(int(program.accumulates)),
        "counted": "    present.n_steps++;" if program.draws and program.accumulates else "",
        "counted_at_once": "    present.n_steps++;" if program.draws and not program.accumulates else "",
        **dict.fromkeys(_rounding(), ""),
        **(_rounding(is_fixed) if program.rounds else {}),
        "resident_bytes": str(program.resident_bytes),
    }


def _rounding(is_fixed: bool = True) -> dict[str, str]:
    """What a project adds that rounds at random; where trained channels are given, so is the number of samples."""
    n_seen = "\n    uint32_t n_seen; /* samples trained on, with which rounding changes */"
    return {
        "n_seen": n_seen,
        "present": f"{'static ' if is_fixed else ''}struct {{{n_seen}\n}} present;\n\n",
        "seen": "    present.n_seen++;",
        "unseen": "    present.n_seen = 0;",
    }


def fill(template: str, values: dict[str, str]) -> str:
    """``template`` with every ``@key@`` replaced."""
    for key, text in values.items():
        template = template.replace(f"@{key}@", text)
    return template


def weights_source(program: Program) -> str:
    """The C file with all constants."""
    return '#include "kt_project.h"\n\n' + "\n".join(constant(item) for item in program.constants)


def storage_source(program: Program) -> str:
    """Room for the constants, which somebody else fills in."""
    lines = (f"{_C_TYPES[str(item.values.dtype)]} {item.name}[{item.values.size}];" for item in program.constants)
    return "#include <stdint.h>\n\n" + "\n".join(lines) + "\n"
