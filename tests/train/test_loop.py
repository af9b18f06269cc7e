import errno
import json
import os
import signal

import msgspec
import pytest
import torch
from torch import nn

from kilotune.data.augment import Augment
from kilotune.data.batches import Batches
from kilotune.data.images import Dataset, Split
from kilotune.errors import BudgetError, RunError, TrainingError
from kilotune.train.checkpoint import Checkpoint
from kilotune.train.folder import RunFolder
from kilotune.train.loop import FineTuner
from kilotune.train.record import Record, read_record
from kilotune.train.tensors import read_tensors
from kilotune.train.update import apply_update, fingerprint

EXAMPLE = torch.zeros(1, 1, 8, 8)
CLASSES = ("a", "b", "c", "d")


def make_model(seed: int = 0) -> nn.Module:
    """Convolution, depthwise, pointwise with batch norms that have seen data, and a classifier."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 4),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(32, 1, 8, 8))
    return model.eval()


def make_split(n: int, seed: int) -> Split:
    """Horizontal stripes, vertical stripes, a chessboard or nothing, in noise."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    row, column = torch.arange(8).view(-1, 1) % 2, torch.arange(8) % 2
    patterns = torch.stack([row.expand(8, 8), column.expand(8, 8), row ^ column, torch.zeros(8, 8, dtype=torch.long)])
    images = torch.randint(0, 100, (n, 1, 8, 8), generator=draws) + 155 * patterns[labels, None]
    return Split(images.to(torch.uint8), labels)


DATA = Dataset("textures", make_split(64, 1), make_split(32, 2), CLASSES)
FIELDS = {"budget": "12KiB", "augment": "none", "batch_size": 8, "lr": 0.05, "seed": 3}


def make_tuner(**fields) -> FineTuner:
    return FineTuner(make_model(), EXAMPLE, **{**FIELDS, **fields})


def timeless(record: Record) -> dict:
    """The record without what is different each time."""
    plain = msgspec.to_builtins(record) | {"seconds": 0}
    return plain | {"epochs": [epoch | {"seconds": 0} for epoch in plain["epochs"]]}


def test_learns_within_the_budget():
    budget = 24 * 1024
    tuner = make_tuner(policy="medyate", batch_size=4, optimizer="adam", lr=0.01, budget=budget)
    record = tuner.fit(DATA, DATA, epochs=5)
    assert record.accuracy_before < 0.6
    assert record.accuracy > 0.9
    assert record.ledger.total_bytes <= record.ledger.worst_total_bytes <= budget
    assert all(epoch.total_bytes <= record.ledger.worst_total_bytes for epoch in record.epochs)
    assert len({epoch.channels for epoch in record.epochs}) > 1


def test_nothing_fits():
    with pytest.raises(BudgetError):
        make_tuner(budget=100)


class Pressing(Batches):
    """Batches that press Ctrl-C in the second step of epoch ``press_in``."""

    def __init__(self, press_in: int, tuner: FineTuner):
        recipe = tuner.recipe
        augment = Augment(recipe.input[1:], recipe.augment)
        super().__init__(DATA.train, recipe.batch_size, augment, seed=recipe.seed)
        self.press_in = press_in

    def epoch(self, number: int):
        for index, batch in enumerate(super().epoch(number)):
            if (number, index) == (self.press_in, 1):
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


RESUMED = [
    {"policy": "medyate", "optimizer": "momentum", "optimizer_state": "keep"},
    {"policy": "medyate", "optimizer": "sgd", "accumulate": 3},
    {"policy": "trady", "optimizer": "adamw", "lr": 1e-3, "redraw": 3},
    {"policy": "dgsu", "budget": None},
    {"policy": "det_rgn"},
    {"policy": "velocity", "ledger": "parameters", "budget": 900},
    {"policy": "velocity_input", "ledger": "selection", "options": {"images": 5, "sketch": 4}, "redraw": 3},
    {"policy": "neq", "budget": None, "options": {"eps": 3e-4}, "optimizer": "momentum", "optimizer_state": "keep"},
    {"policy": "static_det_raw", "options": {"survey_steps": 2}, "optimizer": "momentum"},
    {"policy": "prob_raw", "redraw": 3, "accumulate": 2},
    {"policy": "full", "optimizer": "adam", "lr": 1e-3, "budget": None},
    {"policy": "bias", "budget": None, "optimizer": "rmsprop", "lr": 1e-3},
    {"policy": "random", "precision": "bfloat16", "channels_last": True},
    {"policy": "trady", "keep": "asi:2"},
    {"policy": "medyate", "keep": "lance:2", "budget": "16KiB"},
    {"policy": "random", "keep": "int8"},
]


@pytest.mark.parametrize("fields", RESUMED, ids=lambda fields: f"{fields['policy']}-{fields.get('optimizer', 'sgd')}")
def test_a_run_stopped_by_ctrl_c_and_resumed_ends_bit_for_bit_like_a_straight_one(tmp_path, fields):
    straight, broken, resumed = (make_tuner(**fields, epochs=4) for _ in range(3))
    straight.fit(DATA, DATA, out=tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt, match=r"stopped in epoch 3; .*go on with: kilotune resume"):
        broken.fit(Pressing(2, broken), DATA, out=tmp_path / "broken")
    assert read_record(tmp_path / "broken" / "run.json").status == "stopped"
    resumed.resume(tmp_path / "broken")
    resumed.fit(DATA, DATA, out=tmp_path / "broken")
    assert fingerprint(resumed.model.state_dict()) == fingerprint(straight.model.state_dict())
    assert fingerprint(resumed.model.state_dict()) != fingerprint(make_model().state_dict())
    assert timeless(resumed.record) == timeless(straight.record)
    ends = [Checkpoint.read(RunFolder(tmp_path / name).checkpoint) for name in ("straight", "broken")]
    assert ends[0].selector == ends[1].selector
    assert fingerprint(ends[0].optimizer) == fingerprint(ends[1].optimizer)
    assert fingerprint(ends[0].generators) == fingerprint(ends[1].generators)


def test_fitting_on_is_the_same_as_fitting_at_once():
    straight, twice = (make_tuner(schedule="constant", warmup_epochs=0) for _ in range(2))
    straight.fit(DATA, DATA, epochs=3)
    twice.fit(DATA, DATA, epochs=1)
    twice.fit(DATA, DATA, epochs=3)
    assert timeless(twice.record) == timeless(straight.record)
    assert fingerprint(twice.model.state_dict()) == fingerprint(straight.model.state_dict())


def test_leaves_the_global_generator_alone():
    tuner = make_tuner()
    before = torch.get_rng_state()
    tuner.fit(DATA, DATA, epochs=1)
    assert torch.get_rng_state().equal(before)


def test_run_folder(tmp_path):
    run = tmp_path / "run"
    tuner = make_tuner(policy="medyate", options={"alpha_opt": 0.5})
    tuner.fit(DATA, DATA, epochs=2, out=run)
    assert {path.name for path in run.iterdir()} == {
        "run.json", "weights.safetensors", "update.safetensors", "log.txt", "checkpoint",
    }  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "done"
    assert record["recipe"]["policy"] == "medyate"
    assert record["recipe"]["seed"] == 3
    assert record["recipe"]["epochs"] == 2
    assert {"python", "torch", "kilotune"} <= record["versions"].keys()
    assert record["hardware"]["device"] == "cpu"
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2]
    for epoch in record["epochs"]:
        assert {"loss", "accuracy", "lr", "seconds", "selection_elements", "total_bytes", "channels"} <= epoch.keys()
        assert all(layer in tuner.graph.layer and axis == "in" and rows for layer, axis, rows in epoch["channels"])
    assert record["accuracy"] == record["epochs"][-1]["accuracy"] == tuner.evaluate(DATA).accuracy
    assert (run / "log.txt").read_text().count("epoch ") == 2
    weights, _ = read_tensors(run / "weights.safetensors")
    assert fingerprint(weights) == fingerprint(tuner.model.state_dict())


def test_the_update_makes_the_tuned_model_from_the_base(tmp_path):
    tuner = make_tuner()
    tuner.fit(DATA, DATA, epochs=2, out=tmp_path / "run")
    copy = make_model()
    apply_update(copy, tmp_path / "run" / "update.safetensors")
    assert fingerprint(copy.state_dict()) == fingerprint(tuner.model.state_dict())
    nbytes = (tmp_path / "run" / "update.safetensors").stat().st_size
    assert nbytes < (tmp_path / "run" / "weights.safetensors").stat().st_size


def test_save_and_resume_without_a_folder_at_first(tmp_path):
    tuner = make_tuner()
    tuner.fit(DATA, DATA, epochs=1)
    tuner.save(tmp_path / "run")
    assert read_record(tmp_path / "run" / "run.json").status == "done"
    other = make_tuner()
    other.resume(tmp_path / "run")
    assert other.evaluate(DATA) == tuner.evaluate(DATA)


def test_a_run_is_never_written_over_another(tmp_path):
    make_tuner().fit(DATA, DATA, epochs=1, out=tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        make_tuner().fit(DATA, DATA, epochs=1, out=tmp_path / "run")


def test_resuming_with_another_recipe_or_base_is_refused(tmp_path):
    make_tuner().fit(DATA, DATA, epochs=1, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"lr=0\.05, seed=3"):
        make_tuner(lr=0.1, seed=4).resume(tmp_path / "run")
    with pytest.raises(RunError, match="SHA-256"):
        FineTuner(make_model(seed=9), EXAMPLE, **FIELDS).resume(tmp_path / "run")
    with pytest.raises(RunError, match="cannot read"):
        make_tuner().resume(tmp_path / "missing")


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_epoch(tmp_path):
    tuner = make_tuner(augment="none")
    run = tmp_path / "run"
    with pytest.raises(
        TrainingError, match=r"the loss became (nan|inf) in epoch 2 .* epoch 1 is in .*last\.safetensors"
    ):
        tuner.fit(Poisoned(bad_epoch=1), DATA, epochs=3, out=run)
    record = read_record(run / "run.json")
    assert record.status == "failed"
    assert "the loss became" in record.error
    assert len(record.epochs) == 1
    kept = Checkpoint.read(RunFolder(run).checkpoint)
    assert all(tensor.isfinite().all() for tensor in kept.weights.values())
    assert len(kept.record.epochs) == 1


class Poisoned:
    """A list of batches in which one image is infinite from epoch ``bad_epoch`` on."""

    def __init__(self, bad_epoch: int):
        self.epochs_left = bad_epoch
        self.batches = [(torch.randn(8, 1, 8, 8), torch.arange(8) % 4) for _ in range(3)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        self.epochs_left -= 1
        for x, y in self.batches:
            yield (x if self.epochs_left >= 0 else x * torch.inf), y


def test_a_full_disk_stops_the_run_and_keeps_the_last_epoch(tmp_path, monkeypatch):
    tuner, run = make_tuner(), tmp_path / "run"
    replace = os.replace

    def replace_until_full(source, target):
        if tuner.record.epochs[1:]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_until_full)
    with pytest.raises(TrainingError, match="No space left"):
        tuner.fit(DATA, DATA, epochs=4, out=run)
    monkeypatch.undo()
    other = make_tuner(epochs=4)
    other.resume(run)
    assert len(other.record.epochs) == 1
    assert other.fit(DATA, DATA, epochs=4, out=run).status == "done"


def test_an_error_in_the_users_data_is_recorded_and_passed_on(tmp_path):
    class Broken(list):
        def __iter__(self):
            raise ZeroDivisionError("in the user's code")

    with pytest.raises(ZeroDivisionError):
        make_tuner().fit(Broken([1, 2]), DATA, epochs=1, out=tmp_path / "run")
    record = read_record(tmp_path / "run" / "run.json")
    assert (record.status, record.error) == ("failed", "ZeroDivisionError: in the user's code")


@pytest.mark.parametrize(
    ("redraw", "plans"), [("never", [1, 1]), ("epoch", [1, 1]), ("step", [8, 8]), (3, [3, 3]), ("policy", [1, 1])]
)
def test_redraws_when_asked(redraw, plans):
    record = make_tuner(policy="random", redraw=redraw).fit(DATA, DATA, epochs=2)
    assert [epoch.plans for epoch in record.epochs] == plans
    first, second = (epoch.channels for epoch in record.epochs)
    assert (first == second) is (redraw == "never")


def test_only_planned_entries_change():
    tuner = make_tuner(policy="random", redraw="never")
    record = tuner.fit(DATA, DATA, epochs=1)
    chosen = {layer: set(rows) for layer, _, rows in record.epochs[0].channels}
    assert chosen
    for layer in tuner.graph.body:
        name = f"{layer.name}.weight"
        changed = (tuner.model.state_dict()[name] != tuner.base[name]).flatten(2).any(2)
        axis = 1 if layer.groups == 1 else 0
        found = set(changed.any(1 - axis).nonzero().flatten().tolist())
        assert found <= chosen.get(layer.name, set())


def test_accumulation_is_one_large_batch():
    """Two runs over the same images, in one batch of 16 and in four of 4; they differ by rounding only."""
    fields = {"policy": "full", "budget": None, "schedule": "constant", "warmup_epochs": 0}
    models = []
    for size, accumulate in ((16, 1), (4, 4)):
        images, labels = DATA.train.images.split(size), DATA.train.labels.split(size)
        without_dropout = nn.Sequential(*(layer for layer in make_model() if not isinstance(layer, nn.Dropout)))
        tuner = FineTuner(without_dropout, EXAMPLE, **{**FIELDS, **fields, "accumulate": accumulate})
        tuner.fit(list(zip(images, labels, strict=True)), DATA, epochs=1)
        models.append(without_dropout.state_dict())
    for name, tensor in models[0].items():
        # Four steps in float32 with sums in another order.
        torch.testing.assert_close(models[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_plain_batches_and_arrays_will_do():
    images, labels = DATA.train.images.split(16), DATA.train.labels.split(16)
    batches = [(x.numpy(), y.numpy()) for x, y in zip(images, labels, strict=True)]
    record = make_tuner().fit(batches, batches, epochs=1)
    assert len(record.epochs) == 1
