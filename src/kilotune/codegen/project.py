"""The folder of a C project: runtime, generated sources, what builds them."""

import re
import shutil
import zlib
from pathlib import Path

import kilotune
from kilotune.codegen.program import Program
from kilotune.codegen.render import argument, fields, fill, storage_source, weights_source
from kilotune.codegen.render_draws import draw_fields
from kilotune.codegen.store import flash_of
from kilotune.errors import ExportError

RUNTIME = Path(kilotune.__file__).parent / "runtime"
_NAMES = re.compile(r"\b(kt_\w+)(\.h|\.inc)?")


def write_sources(program: Program, folder: Path, model: str, policy: str, rate: float, is_fixed: bool = True) -> None:
    """Write ``src/`` of a project into ``folder``, which must be new or empty.

    rate: learning rate until ``kt_set_learning_rate`` changes it. is_fixed: whether weights and trained channels are constants;
    if not, ``HostProject`` gives them. Raises ExportError if there is something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty; choose another folder")
    sources = folder / "src"
    shutil.copytree(RUNTIME / "include", sources)
    state = "kt_dynamic.c" if program.draws else "kt_static.c"
    values = {"state": (RUNTIME / "project" / state).read_text()}
    values |= (
        fields(program, is_fixed)
        | (draw_fields(program.draws) if program.draws else {})
        | {
            "version": kilotune.__version__,
            "model": model,
            "policy": policy,
            "rate": argument(float(rate)),
            "store_bytes": str(flash_of(program.image_bytes)),
        }
    )
    values["identity"] = str(zlib.crc32("".join(values.values()).encode()))
    for name in ("kt_project.h", "kt_project.c"):
        (sources / name).write_text(fill((RUNTIME / "project" / name).read_text(), values))
    _copy_runtime(sources)
    (sources / "kt_weights.c").write_text(weights_source(program) if is_fixed else storage_source(program))


def _copy_runtime(sources: Path) -> None:
    """Of the runtime what the project needs: a function is in the file of its name, and so are those that it calls."""
    waiting = [(sources / "kt_project.c").read_text(), (sources / "kt_math.h").read_text()]
    while waiting:
        for name, part in sorted(set(_NAMES.findall(waiting.pop()))):
            found = RUNTIME / "src" / f"{name}{part or '.c'}"
            if found.exists() and not (sources / found.name).exists():
                shutil.copy(found, sources)
                waiting.append(found.read_text())
