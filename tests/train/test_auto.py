"""Combinations are judged by the gradient they capture: against dense autograd, and under the budget."""

import pytest
import torch
from torch import nn

from kilotune.errors import BudgetError
from kilotune.graph.capture import capture
from kilotune.train.auto import Candidate, choose, measure
from kilotune.update_plan import Budget
from tests.oracles.dense import dense_gradients
from tests.oracles.networks import batch, randomise

# Float32 sums of a few hundred squares in another order.
TOLERANCE = 1e-4
SHAPE, N_CLASSES = (3, 10, 10), 4
CANDIDATES = (
    Candidate("medyate"),
    Candidate("medyate", (), "int8"),
    Candidate("medyate", (("biases", 2),), "int4"),
    Candidate("full"),
    Candidate("last"),
    Candidate("trady", (), "filter:2"),
)


def network() -> nn.Module:
    return randomise(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 24, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, N_CLASSES),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def case():
    model, (x, y) = network(), batch(SHAPE, 8, N_CLASSES)
    graph = capture(model, x[:1])
    return model, graph, x, y, measure(model, graph, x, y, ("int8", "int4"))


def test_energy_is_that_of_dense_autograd(case):
    model, graph, x, y, gradient = case
    dense = dense_gradients(model, x, y)
    for layer in graph.body:
        expected = dense[f"{layer.name}.weight"].double()
        if layer.kind == "linear":
            expected = expected[:, :, None, None]
        assert torch.allclose(
            torch.from_numpy(gradient.weights[layer.name]), expected.square().sum((0, 2, 3)), TOLERANCE
        )
    # Where a batch norm is folded, what is trained as the bias is its shift.
    assert gradient.biases["0"] == pytest.approx(float(dense["1.bias"].square().sum()), rel=TOLERANCE)
    assert gradient.biases["3"] == pytest.approx(float(dense["3.bias"].square().sum()), rel=TOLERANCE)


def test_fidelity_falls_with_the_bits(case):
    _, graph, _, _, gradient = case
    exact, int8, int4 = (gradient.fidelity[keep] for keep in (None, "int8", "int4"))
    assert set(exact.values()) == {1.0}
    for layer in graph.body[1:]:
        assert 0.5 < int4[layer.name] < int8[layer.name] < 1
    first = graph.body[0].name
    assert int8[first] == pytest.approx(1), "the image is there anyway"


def test_the_best_share_that_fits_comes_first(case):
    _, graph, _, _, gradient = case
    budget = Budget(12_000)
    gradient.fidelity["filter:2"] = dict.fromkeys(gradient.fidelity[None], 0.5)
    choices = choose(graph, gradient, budget, candidates=CANDIDATES)
    fitting = [choice for choice in choices if choice.selector is not None]
    shares = [choice.share for choice in fitting]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] <= shares[0] < 1
    for choice in fitting:
        assert choice.worst_bytes == choice.selector.worst_case.total_bytes <= budget.nbytes
        assert choice.n_weights > 0 or choice.n_biases > 0
    reasons = {choice.candidate.flags: choice.why for choice in choices if choice.selector is None}
    assert reasons["--policy full"].startswith("needs at least ")
    assert "filter" in reasons["--policy trady --keep filter:2"], "the network has a linear layer"


def test_everything_captures_everything(case):
    _, graph, _, _, gradient = case
    (choice,) = choose(graph, gradient, Budget(1 << 40), candidates=(Candidate("full"),))
    assert choice.share == pytest.approx(1)
    assert choice.n_weights == sum(layer.weight_elements for layer in graph.body)
    assert choice.fidelity == 1


def test_the_same_seed_chooses_the_same(case):
    model, graph, x, y, gradient = case
    again = measure(model, graph, x, y, ("int8", "int4"))
    first, second = (choose(graph, one, Budget(12_000), 3, candidates=CANDIDATES[:3]) for one in (gradient, again))
    assert [(c.candidate, c.share, c.n_weights) for c in first] == [(c.candidate, c.share, c.n_weights) for c in second]


def test_the_search_varies_one_part_after_the_other(case):
    """Ways and a way by layer, policies, biases, fronts; nothing twice, the best first, and all of it fits."""
    _, graph, _, _, gradient = case
    choices = choose(graph, gradient, Budget(12_000))
    tried = [choice.candidate for choice in choices]
    assert len(set(tried)) == len(tried)
    assert {"medyate", "trady", "random", "dgsu", "bias", "last", "classifier"} == {one.policy for one in tried}
    assert {None, "int8", "int4"} < {one.keep for one in tried}
    assert {name for one in tried for name, _ in one.options} == {"biases", "front"}
    best = choices[0]
    assert best.share == max(choice.share for choice in choices)
    assert best.worst_bytes <= 12_000


def test_ways_by_layer_are_those_worth_most(case):
    """The way of each layer leaves at least as much for an element as any other; judged by its own fidelity."""
    _, graph, _, _, gradient = case
    choices = choose(graph, gradient, Budget(12_000))
    mixed = next(one for one in choices if isinstance(one.candidate.keep, tuple))
    ways = dict(mixed.candidate.keep)
    assert graph.body[0].name not in ways, "the image is there anyway"
    assert set(ways.values()) <= {"int8", "int4"}
    assert min(gradient.left_by(mixed.candidate.keep)[name] for name in ways) <= mixed.fidelity <= 1
    assert mixed.candidate.flags.endswith(",".join(f"{name}={way}" for name, way in ways.items()))
    assert mixed.candidate.label.partition("by layer: ")[2].split()[0].isdigit()


def test_low_rank_ways_lose_more_at_lower_ranks(case):
    model, graph, x, y, _ = case
    ways = ("hosvd:0.5:1", "hosvd:0.99:1", "asi:1", "asi:9")
    fidelity = measure(model, graph, x, y, ways).fidelity
    for layer in graph.body[1:3]:
        low, high, one, many = (fidelity[way][layer.name] for way in ways)
        assert low < high
        assert one < many


def test_the_chosen_selector_has_drawn_nothing_yet(case):
    _, graph, _, _, gradient = case
    best = choose(graph, gradient, Budget(12_000), candidates=CANDIDATES[:2])[0]
    assert best.selector.memory.draws == 0


def test_nothing_fits(case):
    _, graph, _, _, gradient = case
    with pytest.raises(BudgetError, match=r"no combination fits 100 B .*: needs at least"):
        choose(graph, gradient, Budget(100), candidates=CANDIDATES[:2])


def test_flags_are_those_of_the_command_line():
    assert Candidate("medyate", (("biases", 21),), "int8").flags == "--policy medyate --option biases=21 --keep int8"
