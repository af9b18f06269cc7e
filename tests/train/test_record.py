import json

import msgspec
import pytest
import torch

from kilotune.errors import RunError
from kilotune.train.recipe import Recipe
from kilotune.train.record import EpochFigures, LedgerFigures, Record, birth_certificate, read_record
from kilotune.update_plan import ChannelSet

LEDGER = LedgerFigures(
    selection_elements=10,
    selection_bytes=40,
    saved_bytes=24,
    total_bytes=900,
    worst_selection_elements=12,
    worst_total_bytes=1000,
)


def make_record() -> Record:
    certificate = birth_certificate(torch.device("cpu"))
    return Record(recipe=Recipe.of(policy="trady"), ledger=LEDGER, base_sha256="ab", accuracy_before=0.1, **certificate)


def make_epoch(epoch: int, accuracy: float) -> EpochFigures:
    return EpochFigures(
        epoch=epoch,
        loss=1.5,
        accuracy=accuracy,
        val_loss=1.0,
        lr=0.1,
        seconds=2.0,
        selection_elements=10,
        total_bytes=900,
        plans=1,
        channels=(ChannelSet("a.b", "in", (0, 3)),),
    )


def test_round_trip(tmp_path):
    record = make_record()
    record.add(make_epoch(1, 0.5))
    record.write(tmp_path / "run.json")
    assert read_record(tmp_path / "run.json") == record


def test_best_and_last():
    record = make_record()
    for epoch, accuracy in enumerate([0.4, 0.7, 0.6], 1):
        record.add(make_epoch(epoch, accuracy))
    assert (record.accuracy, record.best_accuracy, record.seconds) == (0.6, 0.7, 6.0)


def test_summary_has_the_keys_of_the_contract():
    record = make_record()
    record.add(make_epoch(1, 0.5))
    summary = json.loads(json.dumps(record.summary()))
    assert summary["policy"] == "trady"
    assert {"accuracy_before", "accuracy", "best_accuracy", "ledger", "seconds", "epochs"} <= summary.keys()
    assert {"selection_bytes", "saved_bytes", "total_bytes"} <= summary["ledger"].keys()
    assert "channels" not in summary["epochs"][0]


def test_birth_certificate():
    certificate = birth_certificate(torch.device("cpu"))
    assert certificate["versions"]["torch"] == torch.__version__
    assert certificate["commit"] is None or len(certificate["commit"].removesuffix("-dirty")) == 40
    assert certificate["hardware"]["device"] == "cpu"


def test_what_is_no_record(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        read_record(tmp_path / "run.json")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="not the record of a run"):
        read_record(tmp_path / "run.json")
    plain = msgspec.to_builtins(make_record()) | {"version": 99}
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(plain))
    with pytest.raises(RunError, match="version 99"):
        read_record(tmp_path / "run.json")
