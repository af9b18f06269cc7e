from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotune.train.recipe import Recipe
from kilotune.train.schedule import Schedule


def test_papers_recipe():
    """105 epochs of 10 steps, 5 of warm-up: linear to 0.125, then half a cosine to 0 (TraDy, section 5)."""
    schedule = Schedule.of(Recipe.of(epochs=105, lr=0.125), steps_per_epoch=10)
    assert (schedule.warmup_steps, schedule.total_steps) == (50, 1050)
    assert schedule.rate(0) == pytest.approx(0.125 / 50)
    assert schedule.rate(24) == pytest.approx(0.125 / 2)
    assert schedule.rate(49) == schedule.rate(50) == 0.125
    assert schedule.rate(550) == pytest.approx(0.125 / 2)
    assert schedule.rate(1049) == pytest.approx(0.125 * 0.5 * (1 + cos(pi * 999 / 1000)))


def test_short_run_warms_up_for_a_fifth():
    assert Schedule.of(Recipe.of(epochs=10), 100).warmup_steps == 200
    assert Schedule.of(Recipe.of(epochs=1), 3).warmup_steps == 0


def test_constant():
    schedule = Schedule.of(Recipe.of(epochs=10, warmup_epochs=0, lr=0.01, schedule="constant"), 7)
    assert {schedule.rate(step) for step in range(70)} == {0.01}


@given(st.integers(1, 50), st.integers(0, 60), st.integers(1, 20))
def test_rises_then_falls_and_never_leaves_its_range(epochs, warmup_epochs, steps_per_epoch):
    schedule = Schedule.of(Recipe.of(epochs=epochs, warmup_epochs=warmup_epochs, lr=0.1), steps_per_epoch)
    rates = [schedule.rate(step) for step in range(epochs * steps_per_epoch)]
    top = rates.index(max(rates))
    assert all(0 < rate <= 0.1 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
