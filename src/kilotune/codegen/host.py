"""A project as a shared library on this computer, called from Python."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from kilotune.codegen.medium import MemoryMedium
from kilotune.codegen.program import Constant, Program
from kilotune.codegen.region import SlicePlace
from kilotune.codegen.tools import run_tool
from kilotune.errors import ExportError

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")
FAST = ("-O3", "-march=native")
SANITIZED = ("-O1", "-g", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PROBE = ("-DKT_PROBE",)

_N_COMPILERS = 2
_FUNCTIONS = (
    *("start", "infer", "train_step", "apply", "redraw", "save", "restore", "set_learning_rate", "use_store"),
    "weights_hash",
)
_PROBE_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_float), ctypes.c_int)
_FLOATS = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")


def compile_library(sources: Path, out: Path, flags: tuple[str, ...] = FAST, compiler: str = "gcc") -> Path:
    """All C files of a folder as a shared library in ``out``. Raises EmulatorError if the compiler is missing or complains."""
    return link(compile_objects(sorted(sources.glob("*.c")), sources, out, flags, compiler), out, flags, compiler)


def compile_objects(
    files: Sequence[Path], include: Path, out: Path, flags: tuple[str, ...] = FAST, compiler: str = "gcc"
) -> list[Path]:
    """Object files of C files, in ``out``. Raises EmulatorError if the compiler is missing or complains."""
    out.mkdir(parents=True, exist_ok=True)

    def one(file: Path) -> Path:
        target = out / f"{file.stem}.o"
        run_tool(
            [compiler, *FLAGS, *flags, "-fPIC", f"-I{include}", "-c", file, "-o", target], f"compiling {file.name}"
        )
        return target

    with ThreadPoolExecutor(_N_COMPILERS) as pool:
        return list(pool.map(one, files))


def link(objects: Sequence[Path], out: Path, flags: tuple[str, ...] = FAST, compiler: str = "gcc") -> Path:
    """A shared library in ``out``. Raises EmulatorError if the linker complains."""
    library = out / ("libkilotune.dylib" if sys.platform == "darwin" else "libkilotune.so")
    symbolic = () if sys.platform == "darwin" else ("-Wl,-Bsymbolic",)
    run_tool([compiler, *flags, "-shared", *symbolic, *objects, "-o", library], "linking")
    return library


class _Slice(ctypes.Structure):
    """``kt_slice``."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("index", "delta", "gradient", "velocity", "kept")),
        ("count", ctypes.c_uint16),
    ]


class HostProject:
    """The functions of ``kt_project.h``. One at a time per library: a project has one arena.

    store_bytes: size of the weight store, in memory, of a project that draws anew. cells: what it already holds.
    pixel: what images consist of. constants: of a project whose weights are given.
    Raises ExportError where functions are missing.
    """

    def __init__(
        self,
        library: Path,
        image_elements: int,
        classes: int,
        store_bytes: int = 0,
        cells: np.ndarray | None = None,
        pixel: type[np.generic] = np.float32,
        constants: Sequence[Constant] = (),
    ):
        self._c, self._pixel = ctypes.CDLL(str(library)), pixel
        missing = [f"kt_{name}" for name in _FUNCTIONS if not hasattr(self._c, f"kt_{name}")]
        if missing:
            raise ExportError(f"the project has no {', '.join(missing)}: its sources are damaged; export it again")
        self._image_elements, self._classes = image_elements, classes
        image = np.ctypeslib.ndpointer(pixel, flags="C_CONTIGUOUS")
        self._c.kt_infer.argtypes = (image, _FLOATS)
        self._c.kt_infer.restype = None
        self._c.kt_train_step.argtypes = (image, ctypes.c_uint32)
        self._c.kt_train_step.restype = ctypes.c_float
        self._c.kt_set_learning_rate.argtypes = (ctypes.c_float,)
        self._c.kt_weights_hash.restype = ctypes.c_uint32
        self._probe: object = None
        self._indices: list[np.ndarray] = []
        for constant in constants:
            self.view(constant.name, constant.values.size, constant.values.dtype)[:] = constant.values.reshape(-1)
        self.medium = MemoryMedium(store_bytes, cells)
        self._c.kt_use_store(ctypes.byref(self.medium.struct))
        self.check(self._c.kt_start())

    @classmethod
    def of(cls, library: Path, program: Program, store_bytes: int = 0) -> "HostProject":
        """The library of ``program``."""
        pixel = np.uint8 if program.image_is_bytes else np.float32
        return cls(library, program.image_elements, program.classes, store_bytes, pixel=pixel)

    def check(self, code: int) -> None:
        """Raises ExportError for a negative result."""
        if code < 0:
            raise ExportError(f"the project returned {code}; the codes are in kt_types.h")

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Logits (classes,) of an image (c, h, w)."""
        logits = np.empty(self._classes, np.float32)
        self._c.kt_infer(self._flat(image), logits)
        return logits

    def train_step(self, image: np.ndarray, label: int) -> float:
        """Loss of one sample; gradients are summed in the project. Raises ExportError for a label it does not know."""
        loss = float(self._c.kt_train_step(self._flat(image), label))
        self.check(int(loss) if loss < 0 else 0)
        return loss

    def apply(self) -> None:
        """Change the weights."""
        self._c.kt_apply()

    def redraw(self) -> None:
        """Commit and draw anew."""
        self.check(self._c.kt_redraw())

    def save(self) -> None:
        """Everything trained to the store."""
        self.check(self._c.kt_save())

    def restore(self) -> None:
        """What was saved last. Raises ExportError where nothing was."""
        self.check(self._c.kt_restore())

    def set_learning_rate(self, rate: float) -> None:
        """For the updates to come."""
        self._c.kt_set_learning_rate(rate)

    def weights_hash(self) -> int:
        """Of everything trained."""
        return int(self._c.kt_weights_hash())

    def view(self, name: str, elements: int, dtype: DTypeLike = np.float32) -> np.ndarray:
        """The first ``elements`` numbers of an array of the project, the array itself."""
        memory = (ctypes.c_ubyte * (elements * np.dtype(dtype).itemsize)).in_dll(self._c, name)
        return np.ctypeslib.as_array(memory).view(dtype)

    def floats(self, offset: int, elements: int) -> np.ndarray:
        """A copy of ``elements`` numbers of the arena from byte ``offset`` on."""
        return self.view("kt_arena", offset // 4 + elements)[offset // 4 :].copy()

    def train(self, indices: Sequence[Sequence[int]], places: Sequence[SlicePlace]) -> None:
        """Which input channels of each layer of the tables are trained from now on, of a project whose channels are given."""
        self._indices = [np.array(chosen, np.uint16) for chosen in indices]
        arena = ctypes.addressof(ctypes.c_float.in_dll(self._c, "kt_arena"))
        rows = (_Slice * len(places)).in_dll(self._c, "kt_slices")
        for row, chosen, at in zip(rows, self._indices, places, strict=True):
            row.index, row.count = chosen.ctypes.data, len(chosen)
            row.delta, row.gradient, row.kept = arena + at.delta, arena + at.gradient, arena + at.kept

    def watch(self, seen: Callable[[int, int, np.ndarray], None]) -> None:
        """Call ``seen(0 value or 1 gradient, node, numbers)`` for everything a build with ``PROBE`` computes."""

        def call(what: int, index: int, at: object, n: int) -> None:
            seen(what, index, np.ctypeslib.as_array(at, (n,)).copy())

        self._probe = _PROBE_TYPE(call)
        ctypes.c_void_p.in_dll(self._c, "kt_probe").value = ctypes.cast(self._probe, ctypes.c_void_p).value

    def _flat(self, image: np.ndarray) -> np.ndarray:
        if self._pixel is np.uint8 and image.dtype != np.uint8:
            raise ExportError(f"the project takes images of bytes (uint8), got {image.dtype}")
        flat = np.ascontiguousarray(image, self._pixel).reshape(-1)
        if flat.size != self._image_elements:
            raise ExportError(f"the project takes images of {self._image_elements} numbers, got {image.shape}")
        return flat
