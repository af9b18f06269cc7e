"""The C runtime as a library that Python can call, compiled once with every warning an error."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

import kilotune

RUNTIME = Path(kilotune.__file__).parent / "runtime"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-ffp-contract=off"]


@pytest.fixture(scope="session", params=["gcc", "clang"])
def policy_library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Generator and draws, undefined behaviour trapped."""
    return library(
        request.param, ["kt_rng_", "kt_shuffle_next", "kt_channel_cost", "kt_draw_", "kt_norms_mean"], tmp_path_factory
    )


@pytest.fixture(scope="session", params=["gcc", "clang"])
def store_library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The weight store, undefined behaviour trapped."""
    return library(request.param, ["kt_store_", "kt_crc32"], tmp_path_factory)


def library(compiler: str, prefixes: list[str], folders: pytest.TempPathFactory) -> ctypes.CDLL:
    """The files of ``runtime/src`` that start with one of ``prefixes``."""
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    sources = [path for path in sorted((RUNTIME / "src").glob("*.c")) if path.name.startswith(tuple(prefixes))]
    shared = folders.mktemp("runtime") / "runtime.so"
    flags = [*STRICT, "-O2", "-shared", "-fPIC", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run([compiler, *flags, f"-I{RUNTIME / 'include'}", "-o", shared, *sources], check=True)
    return ctypes.CDLL(str(shared))
