"""A project written by hand: softmax regression on twelve inputs, three classes; and variants of it that misbehave. The runtime
as a library."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kilotune.codegen import host
from kilotune.codegen.boards import BOARDS
from kilotune.codegen.firmware import BOARD_FILES, Project
from kilotune.codegen.manifest import Manifest
from kilotune.codegen.package import package
from kilotune.codegen.project import RUNTIME
from kilotune.codegen.session import Session, shuffled_order
from tests.codegen.kernels import FLAGS, Kernels
from tests.objects import Objects

HEADER = """
#include "kt_math.h"
#include "kt_store.h"
#include "kt_types.h"
#define KT_IMAGE_ELEMENTS 12
#define KT_IMAGE_BYTES 48
#define KT_CLASSES 3
#define KT_ARENA_BYTES 12
#define KT_ARENA_FIXED 8
extern float kt_arena[3];
typedef float kt_pixel;
int kt_start(void);
kt_pixel *kt_image(void);
void kt_infer(const kt_pixel *image, float *logits);
float kt_train_step(const kt_pixel *image, uint32_t label);
void kt_apply(void);
int kt_redraw(void);
int kt_save(void);
void kt_use_store(const kt_medium *medium);
uint32_t kt_weights_hash(void);
"""

SOURCE = """
#include "kt_project.h"

float kt_arena[3];
static float image[12], weight[36], gradient[36];
static float *const probability = kt_arena;

int kt_start(void) { START; }
float *kt_image(void) { return image; }
int kt_redraw(void) { REDRAW; }
int kt_save(void) { return 0; }
void kt_use_store(const kt_medium *medium) { (void)medium; }

void kt_infer(const float *x, float *y)
{
    for (int o = 0; o < 3; o++) {
        y[o] = 0;
        for (int i = 0; i < 12; i++) {
            y[o] = KT_FMA(y[o], weight[o * 12 + i], x[i]);
        }
    }
}

float kt_train_step(const float *x, uint32_t label)
{
    float sum = 0;

    if (label >= KT_CLASSES) {
        return KT_BAD_LABEL;
    }
    kt_infer(x, probability);
    for (int o = 0; o < 3; o++) {
        probability[o] = kt_expf(probability[o]);
        sum += probability[o];
    }
    for (int o = 0; o < 3; o++) {
        const float error = probability[o] / sum - (o == (int)label ? 1.0f : 0.0f);

        for (int i = 0; i < 12; i++) {
            gradient[o * 12 + i] = KT_FMA(gradient[o * 12 + i], error, x[i]);
        }
    }
    return -kt_logf(probability[label] / sum);
}

void kt_apply(void)
{
    for (int i = 0; i < 36; i++) {
        weight[i] -= 0.1f * gradient[i];
        gradient[i] = 0;
    }
}

uint32_t kt_weights_hash(void)
{
    uint32_t hash = 2166136261u;

    for (int i = 0; i < 36; i++) {
        hash = (hash ^ kt_bits(weight[i])) * 16777619u;
    }
    return hash;
}
"""

Make = Callable[..., Project]

MANIFEST = Manifest(
    model="softmax",
    input=(1, 3, 4),
    n_classes=3,
    mean=(0.5,),
    std=(0.25,),
    policy="classifier",
    redraw="never",
    seed=0,
    optimizer="sgd",
    learning_rate=0.1,
    weights_dtype="float32",
    memory={"arena": 12, "stack": 1024},
    arena_bytes=12,
    stack_bytes=1024,
    ram_bytes=1036,
    flash_bytes=4000,
)


@pytest.fixture
def make_project(tmp_path: Path) -> Make:
    """A project whose ``kt_start`` and ``kt_redraw`` do what is asked for."""

    def make(start: str = "return 0", redraw: str = "return 0", before: str = "") -> Project:
        source = before + SOURCE.replace("START", start).replace("REDRAW", redraw)
        (tmp_path / "kt_project.h").write_text(HEADER)
        (tmp_path / "project.c").write_text(source)
        runtime = BOARD_FILES.parent
        math = [runtime / "src" / f"kt_{name}.c" for name in ("expf", "logf", "fmaf")]
        return Project((tmp_path / "project.c", *math), (tmp_path, runtime / "include"), 1024)

    return make


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The project as an exported folder."""
    folder = tmp_path / "exported"
    shutil.copytree(BOARD_FILES.parent / "include", folder / "src")
    for name in ("expf", "logf", "fmaf"):
        shutil.copy(BOARD_FILES.parent / "src" / f"kt_{name}.c", folder / "src")
    (folder / "src" / "kt_project.h").write_text(HEADER)
    (folder / "src" / "project.c").write_text(SOURCE.replace("START", "return 0").replace("REDRAW", "return 0"))
    package(folder, MANIFEST)
    return folder


@pytest.fixture
def session() -> Session:
    """Forty samples to train on twice, twenty to evaluate with; the first element of the image tells the class."""
    draws = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (draws.standard_normal((60, 12)) + 2 * np.eye(12)[labels]).astype(np.float32)
    return Session(images[:40], labels[:40], images[40:], labels[40:], shuffled_order(40, 2, 0), 4, 40)


def needs(*boards: str) -> None:
    """Skip where a tool for one of the boards is not installed."""
    for name in boards:
        board = BOARDS[name]
        tools = [f"{board.toolchain.prefix}gcc", *board.emulator[:1], "gcc"]
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


def _library(objects: Objects, out: Path, flags: tuple[str, ...]) -> Kernels:
    """The whole runtime."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    made = objects(sorted((RUNTIME / "src").glob("*.c")), RUNTIME / "include", "gcc", *host.FLAGS, *flags, "-fPIC")
    return Kernels(host.link(made, out, flags))


@pytest.fixture(scope="session")
def kernels(objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The runtime as a library."""
    return _library(objects, tmp_path_factory.mktemp("kernels"), FLAGS)


@pytest.fixture(scope="session", params=["registers", "threads"])
def other_kernels(
    request: pytest.FixtureRequest, objects: Objects, tmp_path_factory: pytest.TempPathFactory
) -> Kernels:
    """The same compiled as for a processor without vectors, and for several threads."""
    undefined = ("-U__SSE__", "-U__AVX__", "-U__AVX512F__", "-U__aarch64__")
    flags = (*FLAGS, *(undefined if request.param == "registers" else ("-fopenmp",)))
    return _library(objects, tmp_path_factory.mktemp(request.param), flags)
