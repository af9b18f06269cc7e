"""What every test may rely on: threads, the profile of hypothesis, the data folder, an importable torchvision."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings

from tests.objects import Objects

_REPOSITORY = Path(__file__).resolve().parents[1]
_N_THREADS = 1
_OPERATORS = pytest.StashKey[torch.library.Library | None]()

# No deadline: a first call that traces or compiles is slower than the next by orders of magnitude.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_configure(config: pytest.Config) -> None:
    """One thread everywhere: sums in one order, and no threads that spin on a busy machine; an importable torchvision."""
    torch.set_num_threads(_N_THREADS)
    config.stash[_OPERATORS] = _declare_missing_operators()


def _declare_missing_operators() -> torch.library.Library | None:
    """Stand-ins for the operators that torchvision wants to see when it is imported, where its own do not load.

    They do not load beside a torch built for another device. timm, lightning and transformers import torchvision too.
    The operators live as long as the library object.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


@pytest.fixture(scope="session")
def data_file() -> Callable[[str], Path]:
    """A path inside the data folder; the test is skipped, naming the file, where it is not there."""
    root = Path(os.environ.get("KILOTUNE_DATA") or _REPOSITORY.parent / "shared" / "data").resolve()

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"needs {path}; set KILOTUNE_DATA to the folder that has {name}")
        return path

    return find


@pytest.fixture(scope="session")
def objects(pytestconfig: pytest.Config) -> Objects:
    """Compiled C, kept beside what pytest remembers from run to run."""
    kept = Objects(pytestconfig.cache.mkdir("objects"))
    kept.forget()
    return kept


@pytest.fixture
def data_root(data_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, with KILOTUNE_DATA set to it; the test is skipped where there are no pretrained weights."""
    root = data_file("weights/models.json").parents[1]
    monkeypatch.setenv("KILOTUNE_DATA", str(root))
    return root


@pytest.fixture(scope="session")
def torchvision_models() -> ModuleType:
    """``torchvision.models``; the test is skipped where torchvision is not installed."""
    return pytest.importorskip("torchvision.models", reason="needs torchvision; make test installs it")
