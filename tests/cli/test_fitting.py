from dataclasses import replace

import pytest

from kilotune.cli.fitting import SIDE_STEP, USEFUL_SHARE, Fitter
from kilotune.cli.network import Network
from kilotune.errors import BudgetError, ShapeError
from kilotune.memory.accounting import Accounting
from kilotune.policies import make
from kilotune.policies.base import Task
from kilotune.policies.fitting import Fitting
from kilotune.update_plan import Budget


@pytest.fixture
def network(folder) -> Network:
    """The user's convolutional network."""
    return Network.load("cli_network:make", None, None)


def fitter(network, budget_bytes, policy="medyate", ceiling=48, ledger="total", **fields):
    return Fitter(
        network, make(policy), Budget(budget_bytes, ledger), Accounting(), channels=1, ceiling=ceiling, **fields
    )


def side(selector):
    return selector.fitting.task.graph.input.shape[-1]


def largest_by_trying_all(network, budget_bytes, policy, ceiling, share):
    """The rule as the help text has it, size by size."""
    best = None
    for candidate in sorted({*range(SIDE_STEP, ceiling + 1, SIDE_STEP), ceiling}):
        fitting = Fitting(Task.of(network.capture((1, candidate, candidate))), make(policy), Accounting())
        size = fitting.largest(Budget(budget_bytes, "total"))
        if size is not None and 4 * fitting.bound(size).elements >= share * budget_bytes:
            best = candidate
    return best


@pytest.mark.parametrize(("kilobytes", "ceiling"), [(12, 48), (40, 48), (40, 20), (1000, 44)])
def test_the_default_input_is_the_largest_with_room_to_train(network, kilobytes, ceiling):
    budget_bytes = 1000 * kilobytes
    found = side(fitter(network, budget_bytes, "random", ceiling).fit(None))
    assert found == largest_by_trying_all(network, budget_bytes, "random", ceiling, USEFUL_SHARE)


def test_a_policy_without_channels_takes_the_largest_input_that_fits(network):
    found = side(fitter(network, 40_000, "classifier").fit(None))
    assert found == largest_by_trying_all(network, 40_000, "classifier", 48, share=0)


def test_the_size_is_told_on_stderr(network, capsys):
    fitter(network, 6000).fit(None)
    assert "input 1x8x8: the largest at which medyate fits 6,000 B (5.9 KiB)" in capsys.readouterr().err


def test_the_selection_ledger_takes_the_size_of_the_papers(network):
    assert side(fitter(network, 100_000, ceiling=160, ledger="selection").fit(None)) == 128
    assert side(fitter(network, 100_000, ceiling=24, ledger="selection").fit(None)) == 24


def test_too_large_an_input_is_answered_with_one_that_fits(network):
    with pytest.raises(BudgetError, match=r"at 1x40x40 needs at least [\d,]+ B .*medyate fits at input 1x8x8$"):
        fitter(network, 6000).fit((1, 40, 40))


def test_where_nothing_fits_the_smallest_budget_is_named_and_suffices(network):
    with pytest.raises(BudgetError, match="at 1x8x8 needs at least") as caught:
        fitter(network, 1000).fit(None)
    needed = int(str(caught.value).split("at least ")[1].split(" B")[0].replace(",", ""))
    assert side(fitter(network, needed).fit((1, 8, 8))) == 8
    with pytest.raises(BudgetError):
        fitter(network, needed - 1).fit((1, 8, 8))


def test_a_classifier_that_takes_the_budget_is_named(folder):
    many = Network.load("cli_network:make", None, 1000)
    with pytest.raises(BudgetError, match=r"classifier of 1,000 classes alone takes 104,000 B"):
        fitter(many, 50_000).fit(None)


def test_a_network_of_one_size_gets_it_if_it_is_the_ceiling(folder):
    perceptron = Network.load("cli_network:perceptron", None, None)
    assert side(fitter(perceptron, 65_536, ceiling=8).fit(None)) == 8
    with pytest.raises(ShapeError, match="takes no square input up to 1x7x7; give the size it takes with --input"):
        fitter(perceptron, 65_536, ceiling=7).fit(None)


def test_the_loaded_resolution_is_the_side(network):
    assert network.side == 128
    assert Network("n", replace(network.loaded, resolution=176)).side == 176


@pytest.mark.parametrize(("budget_bytes", "most"), [(64, 1), (6000, 5), (20_000, 5)])
def test_few_sizes_are_captured_to_say_which_one_fits(network, monkeypatch, budget_bytes, most):
    """None but the one asked for where the classifier alone is too much."""
    seen = []
    capture = Network.capture
    monkeypatch.setattr(Network, "capture", lambda self, shape: seen.append(shape) or capture(self, shape))
    with pytest.raises(BudgetError) as error:
        fitter(network, budget_bytes, ceiling=128).fit((1, 128, 128))
    assert len(seen) <= most
    assert ("fits at input" in str(error.value)) == (most > 1)
