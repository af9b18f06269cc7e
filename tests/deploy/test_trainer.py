"""Training with gradients from C, against training with PyTorch's."""

import pytest
import torch

from kilotune.codegen.host import link
from kilotune.deploy import trainer
from kilotune.deploy.trainer import CFineTuner
from kilotune.errors import ExportError, RunError, TrainingError
from kilotune.train.interrupt import Interrupt
from kilotune.train.loop import FineTuner
from tests.deploy.conftest import SqueezeNet
from tests.oracles.networks import cut_to_patterns

# Gradients differ in rounding only, over eight steps.
TOLERANCE = 1e-4


@pytest.fixture
def precompiled(runtime_objects, monkeypatch):
    """The runtime is compiled once for all tests."""
    monkeypatch.setattr(trainer, "_runtime_objects", lambda names: runtime_objects)


def batches(size):
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, 16, 16, generator=draws), torch.randint(4, (20,), generator=draws)
    return list(zip(x.split(size), y.split(size), strict=True))


def make(kind, patterned=False, **fields):
    torch.manual_seed(0)
    model = SqueezeNet().eval()
    model = cut_to_patterns(model) if patterned else model
    model.head[3].p = 0.0
    fields = {"budget": "64KiB", "seed": 1, "lr": 0.05, "augment": "none", "device": "cpu"} | fields
    return kind(model, torch.zeros(1, 3, 16, 16), **fields)


def tuned(kind, size=5, **fields):
    tuner = make(kind, **fields)
    record = tuner.fit(batches(size), batches(5), epochs=2, quiet=True)
    return record, torch.cat([p.detach().reshape(-1) for p in tuner.model.parameters()])


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": "medyate"},
        {"policy": "classifier", "momentum": 0.9},
        {"policy": "random", "redraw": "step"},
        {"policy": "dgsu"},
        {"policy": "dgsu", "patterned": True},
        {
            "policy": "random",
            "redraw": "step",
            "keep": {"depth.0": "filter:2", "down.0": "filter:2", "body.0": "filter:4"},
        },
        {"policy": "random", "batch_size": 1, "size": 1},
        {"policy": "random", "batch_size": 1, "size": 1, "redraw": 3},
        {"policy": "medyate", "batch_size": 1, "size": 1},
        {"policy": "full", "batch_size": 1, "size": 1, "budget": None},
        {"policy": "full", "batch_size": 1, "size": 1, "budget": None, "patterned": True},
        {"policy": "full", "batch_size": 1, "size": 1, "budget": None, "momentum": 0.5},
        {"policy": "full", "budget": None},
        {"policy": "random", "batch_size": 1, "size": 3},
    ],
    ids=str,
)
def test_the_same_training(precompiled, fields):
    (expected, weights), (found, ours) = tuned(FineTuner, **fields), tuned(CFineTuner, **fields)
    assert [epoch.channels for epoch in found.epochs] == [epoch.channels for epoch in expected.epochs]
    assert [epoch.loss for epoch in found.epochs] == pytest.approx(
        [epoch.loss for epoch in expected.epochs], rel=TOLERANCE
    )
    assert float((weights - ours).abs().max()) < TOLERANCE


def test_each_image_is_kept_on_its_own(precompiled):
    """As on a device; PyTorch shares a scale among the images of a batch. Rounding costs little."""
    exact, found = (tuned(CFineTuner, policy="random", keep=keep)[0] for keep in (None, "int8"))
    assert [epoch.loss for epoch in found.epochs] == pytest.approx([epoch.loss for epoch in exact.epochs], rel=0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "random", "keep": "svd:0.8"}, "a device keeps inputs as int8, int4"),
        ({"policy": "velocity"}, "trains input channels, not output neurons"),
    ],
    ids=str,
)
def test_what_cannot_be_compiled_leaves_no_folder(precompiled, tmp_path, fields, message):
    with pytest.raises((RunError, ExportError), match=message):
        make(CFineTuner, **fields).fit(batches(5), batches(5), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [1, 5])
def test_compiling_is_no_part_of_an_epoch(precompiled, monkeypatch, tmp_path, size):
    """It is done before there is a folder."""
    seen, out = [], tmp_path / "run"
    monkeypatch.setattr(trainer, "link", lambda *rest: seen.append(out.exists()) or link(*rest))
    make(CFineTuner, policy="random", batch_size=size).fit(batches(size), batches(5), epochs=1, out=out, quiet=True)
    assert seen == [False]


def test_a_draw_compiles_nothing(precompiled, monkeypatch):
    """One project for all draws."""
    linked = []
    monkeypatch.setattr(trainer, "link", lambda *rest: linked.append(rest) or link(*rest))
    record, _ = tuned(CFineTuner, policy="random", redraw="step")
    assert sum(epoch.plans for epoch in record.epochs) == 8
    assert len(linked) == 1


def test_after_ctrl_c_the_model_has_what_was_trained_so_far(precompiled, monkeypatch):

    def ask(self):
        self.asked, self._main = True, False
        return self

    monkeypatch.setattr(Interrupt, "__enter__", ask)
    found = []
    for kind in (FineTuner, CFineTuner):
        tuner = make(kind, policy="full", budget=None, batch_size=1)
        with pytest.raises(KeyboardInterrupt):
            tuner.fit(batches(1), batches(5), epochs=2, quiet=True)
        found.append(torch.cat([p.detach().reshape(-1) for p in tuner.step.sync().parameters()]))
    base = torch.cat([p.detach().reshape(-1) for p in make(FineTuner).model.parameters()])
    assert not torch.equal(found[0], base)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [1, 2])
def test_a_loss_that_is_no_number_ends_the_run(precompiled, size):
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in"):
        tuned(CFineTuner, size, policy="full", budget=None, batch_size=size, lr=1e30, warmup_epochs=0)


@pytest.mark.parametrize("fields", [{"precision": "bfloat16"}, {"accumulate": 2}], ids=str)
def test_what_c_does_not_do_is_refused(fields):
    with pytest.raises(RunError, match="trains in float32 on the CPU, without micro-batches"):
        make(CFineTuner, **fields)


def test_dropout_is_left_out_with_a_warning(caplog):
    CFineTuner(SqueezeNet(), torch.zeros(1, 3, 16, 16), budget="64KiB", device="cpu")
    assert "trains without dropout" in caplog.text


def test_a_recipe_of_the_other_backend_is_refused():
    with pytest.raises(RunError, match="CFineTuner has the backend 'c', the recipe says 'torch'"):
        make(CFineTuner, backend="torch")


@pytest.mark.parametrize("keep", [None, "int8", "int4"])
@pytest.mark.parametrize("size", [1, 5])
def test_a_run_goes_on_as_if_it_had_never_stopped(precompiled, tmp_path, size, keep):
    """With what was trained in C alone, image by image, and with what is rounded at random."""
    fields = {"policy": "random", "batch_size": size, "schedule": "constant", "warmup_epochs": 0, "keep": keep}
    through, first, second = (make(CFineTuner, **fields) for _ in range(3))
    through.fit(batches(size), batches(5), epochs=2, quiet=True)
    first.fit(batches(size), batches(5), epochs=1, out=tmp_path / "run", quiet=True)
    second.resume(tmp_path / "run")
    second.fit(batches(size), batches(5), epochs=2, quiet=True)
    assert first.step.live  # It stopped while something was trained.
    for name, tensor in through.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_only_steps_of_one_image_are_all_in_c(precompiled, monkeypatch):
    steps = []
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *rest, **named: steps.append(1))
    counts = {}
    for policy, size in [("random", 1), ("random", 2), ("medyate", 1)]:
        steps.clear()
        tuned(CFineTuner, size, policy=policy, batch_size=size)
        counts[policy, size] = len(steps)
    assert counts == {("random", 1): 0, ("random", 2): 20, ("medyate", 1): 0}
