"""Where the data lies, and a torchvision without its compiled operators."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, KILOTUNE_DATA set to it; skips where there are no weights."""
    folder = Path(os.environ.get("KILOTUNE_DATA", _REPOSITORY / "../shared/data")).resolve()
    wanted = folder / "weights" / "models.json"
    if not wanted.is_file():
        pytest.skip(f"needs {wanted}")
    monkeypatch.setenv("KILOTUNE_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def torchvision_models():
    """torchvision.models, which imports only if its operators exist: where they do not load, stand-ins are declared."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("needs torchvision")
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")
    except OSError:
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield importlib.import_module("torchvision.models")
    # Kept until here, because the operators vanish with the library object.
    del library
