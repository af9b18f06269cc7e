"""Compressed inputs in a run: calibrated before it, in its checkpoints, within its budget, their caps told."""

import logging

import pytest
import torch

from kilotune.graph.low_rank import Lance
from kilotune.memory.measure import saved_bytes
from kilotune.ops.low_rank import calibrated, gram
from kilotune.train.feed import Feed
from kilotune.train.keeping import calibrate, factor_tensors, restore_factors, take_capped
from kilotune.train.loop import FineTuner
from kilotune.train.record import LedgerFigures
from tests.train.test_loop import DATA, EXAMPLE, FIELDS, make_model

WAYS = ["int8", "int4", "prune:0.2", "filter:2", "svd:0.9", "hosvd:0.95", "asi:4", "lance:4"]


def make_tuner(**fields) -> FineTuner:
    return FineTuner(make_model(), EXAMPLE, **{**FIELDS, "budget": None, **fields})


@pytest.mark.parametrize("keep", [*WAYS, {"6": "int8", "9": "hosvd:0.9"}])
def test_learns(keep):
    record = make_tuner(policy="full", keep=keep, batch_size=4, optimizer="adam", lr=0.01).fit(DATA, DATA, epochs=3)
    assert record.accuracy > 0.7 > 0.6 > record.accuracy_before
    assert record.recipe.keep == keep
    assert record.summary()["keep"] == keep


def test_stays_within_the_budget_in_every_epoch():
    record = make_tuner(policy="trady", keep="hosvd:0.8:0.3", budget="12KiB").fit(DATA, DATA, epochs=3)
    assert isinstance(record.ledger, LedgerFigures)
    assert record.ledger.worst_total_bytes <= 12 * 1024
    assert all(epoch.total_bytes <= record.ledger.worst_total_bytes for epoch in record.epochs)


def test_the_run_says_when_the_cap_was_met(caplog):
    tuner = make_tuner(policy="full", keep="hosvd:0.999:0.05")
    with caplog.at_level(logging.INFO):
        record = tuner.fit(DATA, DATA, epochs=1)
    assert record.epochs[0].capped == 1
    assert "the cap of kept inputs was met 24 of 24 times: 3 (8/8), 6 (8/8), 9 (8/8)" in caplog.text
    assert take_capped(tuner.step) == 0, "counted anew each epoch"
    roomy = make_tuner(policy="full", keep="hosvd:0.5:1").fit(DATA, DATA, epochs=1)
    assert roomy.epochs[0].capped == 0


def test_calibration_is_of_the_first_batches():
    tuner = make_tuner(policy="full", keep="lance:3", batch_size=8)
    feed = Feed.training(DATA, tuner.recipe, tuner.device)
    calibrate(tuner.step, feed)
    sums = [torch.zeros(1, 1), torch.zeros(16, 16), torch.zeros(4, 4), torch.zeros(4, 4)]
    for x, _ in feed.batches(0):  # eight batches, all of them
        x = tuner.model[:9](x)
        sums = [total + gram(x, mode) if mode else total for mode, total in enumerate(sums)]
    expected = calibrated(Lance((3,)), 0, sums)
    found = tuner.step.memories["9"].factors
    assert found.keys() == expected.keys() == {1, 2, 3}
    for mode, factor in expected.items():
        # The same subspace; sums in another order change its basis by rounding.
        assert torch.allclose(factor @ factor.T, found[mode] @ found[mode].T, atol=1e-4)
    before = {name: factor.clone() for name, factor in factor_tensors(tuner.step).items()}
    tuner.fit(DATA, DATA, epochs=1)
    assert all(torch.equal(before[name], factor) for name, factor in factor_tensors(tuner.step).items())


def test_factors_come_back():
    tuner, other = make_tuner(policy="full", keep="asi:2"), make_tuner(policy="full", keep="asi:2")
    tuner.fit(DATA, DATA, epochs=1)
    taken = factor_tensors(tuner.step)
    assert taken.keys() == {f"{layer}/{mode}" for layer in "369" for mode in range(4)}
    restore_factors(other.step, taken)
    assert all(torch.equal(taken[key], factor) for key, factor in factor_tensors(other.step).items())


def test_fewer_bytes_are_kept():
    x, y = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    exact, compressed = (saved_bytes(make_tuner(policy="full", keep=keep).step, x, y) for keep in (None, "int8"))
    assert compressed < 0.5 * exact
