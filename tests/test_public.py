"""The Python half of the stable surface: names, signatures and attributes that scripts of others rely on."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import kilotune as kt

EXAMPLE = torch.zeros(1, 3, 16, 16)
LAYER_ATTRIBUTES = {
    "name", "kind", "in_channels", "out_channels", "kernel", "stride", "groups", "input_hw", "output_hw", "weight_elements",
    "input_elements", "channel_cost_elements",
}  # fmt: skip
REPORT_ATTRIBUTES = {"selection_elements", "selection_bytes", "saved_bytes", "total_bytes", "by_layer", "by_kind"}
# Parameters in this order, with these defaults; more may follow.
SIGNATURES = {
    "capture": ["model", "example"],
    "plan": ["graph", "policy='medyate'", "budget='256KiB'", "ledger='total'", "seed=0"],
    "ledger": ["graph", "plan", "batch=1"],
    "prepare": ["model", "example", "plan"],
    "saved_bytes": ["module", "x", "y"],
    "FineTuner": ["model", "example", "budget=None", "policy='medyate'", "seed=0"],
    "FineTuner.fit": ["self", "train", "val", "epochs=None"],
    "FineTuner.save": ["self", "out"],
    "FineTuner.evaluate": ["self", "val"],
    "Step.replan": ["self", "plan", "optimizer=None"],
    "Step.sync": ["self"],
    "Step.restore": ["self"],
    "Step.forward": ["self", "x"],
    "UpdatePlan.from_json": ["text"],
    "UpdatePlan.to_json": ["self"],
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
    features = nn.Sequential(body, nn.Conv2d(8, 12, 1), nn.ReLU())
    return _Named(features)


class _Named(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(12, 4)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def described(name):
    owner = kt
    for part in name.split("."):
        owner = getattr(owner, part)
    parameters = inspect.signature(owner).parameters.values()
    return [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert described(name)[: len(SIGNATURES[name])] == SIGNATURES[name]


def test_names():
    for name in kt.__all__:
        assert getattr(kt, name).__doc__
    assert sorted(kt.__all__, key=str.lower) == sorted(set(kt.__all__), key=str.lower)
    assert 15 <= len(kt.__all__) <= 25, "about twenty"
    assert set(kt.__all__) <= set(dir(kt))
    with pytest.raises(AttributeError, match="has no attribute 'finetune'; it has POLICIES"):
        _ = kt.finetune


def test_importing_is_fast_and_without_torch():
    code = (
        "import kilotune, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; kilotune.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_graph(model):
    graph = kt.capture(model.train(), EXAMPLE)
    assert isinstance(graph, kt.Graph)
    assert [layer.name for layer in graph.layers] == ["features.0.0", "features.1", "classifier"]
    for layer in graph.layers:
        assert all(hasattr(layer, name) for name in LAYER_ATTRIBUTES)
    first = graph.layers[0]
    assert (first.kernel, first.stride, first.input_hw, first.output_hw) == ((3, 3), (2, 2), (16, 16), (8, 8))
    assert (first.weight_elements, first.input_elements, first.channel_cost_elements) == (216, 768, 72 + 256)


def test_plan_and_its_json(model):
    graph = kt.capture(model, EXAMPLE)
    assert {"medyate", "trady", "sparse_update", "dgsu", "full", "classifier"} <= kt.POLICIES.keys()
    plan = kt.plan(graph, policy="medyate", budget="256KiB", ledger="total", seed=0)
    assert kt.UpdatePlan.from_json(plan.to_json()) == plan
    for layer, axis, indices in plan.channels:
        assert layer in {one.name for one in graph.layers}
        assert axis in ("in", "out")
        assert isinstance(indices, tuple)
        assert list(indices) == sorted(set(indices))


def test_report(model):
    graph = kt.capture(model, EXAMPLE)
    plan = kt.plan(graph, budget="64KiB")
    report = kt.ledger(graph, plan, batch=1)
    assert isinstance(report, kt.LedgerReport)
    assert all(hasattr(report, name) for name in REPORT_ATTRIBUTES)
    assert report.total_bytes <= 64 * 1024
    assert report.selection_bytes == 4 * report.selection_elements
    assert sum(report.by_layer.values()) == report.saved_bytes
    assert sum(report.by_kind.values()) == report.total_bytes


def test_step(model):
    graph = kt.capture(model, EXAMPLE)
    plan, plan2 = kt.plan(graph, "random", "16KiB", seed=0), kt.plan(graph, "last", "64KiB")
    step = kt.prepare(model, EXAMPLE, plan)
    assert isinstance(step, nn.Module)
    assert isinstance(step, kt.Step)
    x, y = torch.randn(2, 3, 16, 16), torch.tensor([0, 3])
    assert kt.saved_bytes(step, x, y) == kt.ledger(graph, plan, batch=2).saved_bytes
    optimizer = torch.optim.SGD(list(step.parameters()), lr=0.1)
    torch.nn.functional.cross_entropy(step(x), y).backward()
    optimizer.step()
    head = model.classifier.weight.clone()
    step.replan(plan2)
    assert not torch.equal(model.classifier.weight, head), "committed"
    step.replan(plan, optimizer)
    step.sync()
    assert step.restore() is model


def test_fine_tuner(model, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 16, 16), dtype=np.uint8)
    batches = [(torch.from_numpy(images[i : i + 8]), torch.arange(8) % 4) for i in (0, 8, 16)]
    tuner = kt.FineTuner(model, EXAMPLE, budget="256KiB", policy="medyate", seed=0)
    tuner.fit(batches, batches, epochs=1)
    tuner.save(tmp_path / "run")
    metrics = tuner.evaluate(batches)
    assert metrics.n == 24
    assert tuner.model is model
    for name in ("run.json", "weights.safetensors", "update.safetensors", "checkpoint", "log.txt"):
        assert (tmp_path / "run" / name).exists(), name


def test_errors_have_one_base(model):
    graph = kt.capture(model, EXAMPLE)
    for wrong in (
        lambda: kt.plan(graph, budget="1KiB"),
        lambda: kt.plan(graph, policy="magic"),
        lambda: kt.plan(graph, budget="a lot"),
        lambda: kt.capture(model, torch.zeros(1, 5, 16, 16)),
        lambda: kt.UpdatePlan.from_json("{"),
    ):
        with pytest.raises(kt.KilotuneError):
            wrong()
