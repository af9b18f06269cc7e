"""The folder of a C project: runtime, generated sources, what builds them."""

import shutil
import zlib
from pathlib import Path

import kilotune
from kilotune.codegen.program import Program
from kilotune.codegen.render import argument, fields, fill, weights_source
from kilotune.errors import ExportError

RUNTIME = Path(kilotune.__file__).parent / "runtime"


def write_sources(program: Program, folder: Path, model: str, policy: str, rate: float) -> None:
    """Write ``src/`` of a project into ``folder``, which must be new or empty.

    rate: learning rate until ``kt_set_learning_rate`` changes it. Raises ExportError if there is something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty; choose another folder")
    sources = folder / "src"
    shutil.copytree(RUNTIME / "include", sources)
    shutil.copytree(RUNTIME / "src", sources, dirs_exist_ok=True)
    values = fields(program) | {
        "version": kilotune.__version__,
        "model": model,
        "policy": policy,
        "rate": argument(float(rate)),
    }
    values["identity"] = str(zlib.crc32("".join(values.values()).encode()))
    for name in ("kt_project.h", "kt_project.c"):
        (sources / name).write_text(fill((RUNTIME / "project" / name).read_text(), values))
    (sources / "kt_weights.c").write_text(weights_source(program))
