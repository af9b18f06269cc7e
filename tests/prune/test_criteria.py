import sys

import pytest
import torch

from kilotune.errors import PruneError
from kilotune.prune.channels import Settings, prune_channels
from kilotune.prune.criteria import CRITERIA, torch_pruning
from tests.oracles.prunable import EXAMPLE, prunable


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_prunes(name):
    pytest.importorskip("torch_pruning", reason="needs torch-pruning; make test installs it")
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    settings = Settings(0.5, criterion=name, round_to=1)
    narrowed = prune_channels(prunable(), EXAMPLE, settings, lambda model: model(x).square().sum()).model
    assert len(narrowed.expand.weight) == 8
    assert narrowed(x).isfinite().all()


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(
        PruneError, match=r"needs the library torch-pruning; install it with: pip install kilotune\[prune\]"
    ):
        torch_pruning()
