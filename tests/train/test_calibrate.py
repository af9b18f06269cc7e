"""ASI's rank search: the best choice under a budget, against all choices; ranks that fit and lose less with more bytes."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilotune.errors import BudgetError
from kilotune.graph.capture import capture
from kilotune.graph.keeping import modes_of
from kilotune.graph.low_rank import stored
from kilotune.graph.ways import parse_way
from kilotune.train.calibrate import CELLS, cheapest_choice, search_ranks
from tests.train.test_loop import DATA, EXAMPLE, make_model

LAYERS = ("3", "6", "9")


@given(st.integers(1, 4), st.integers(0, 99), st.integers(1, 120))
def test_the_best_choice_that_fits(n_layers, seed, budget):
    random = np.random.default_rng(seed)
    loss, cost = random.uniform(0, 1, (n_layers, 3)), random.integers(1, 40, (n_layers, 3))
    found = cheapest_choice(loss, cost, budget)
    rows = range(n_layers)
    spent = {
        pick: sum(cost[row, p] for row, p in zip(rows, pick, strict=True))
        for pick in product(range(3), repeat=n_layers)
    }
    lost = {pick: sum(loss[row, p] for row, p in zip(rows, pick, strict=True)) for pick in spent}
    # Rounding up costs at most one part of the budget per layer.
    surely = [lost[pick] for pick, nbytes in spent.items() if nbytes <= budget * (1 - n_layers / CELLS)]
    if found is None:
        assert not surely
    else:
        assert spent[tuple(found)] <= budget
        assert lost[tuple(found)] <= min(surely, default=np.inf) + 1e-12


def test_ranks_fit_and_grow_with_the_budget():
    model = make_model()
    graph = capture(model, EXAMPLE)
    x, y = DATA.train.images[:16] / 255, DATA.train.labels[:16].long()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    elements = []
    for nbytes in (600, 3_000):
        ways = search_ranks(model, graph, LAYERS, x, y, nbytes)
        assert tuple(ways) == LAYERS
        sizes = {name: modes_of(graph, graph.layer[name]).at(16) for name in LAYERS}
        elements.append(sum(stored(sizes[name], parse_way(way).of(sizes[name])) for name, way in ways.items()))
        assert 4 * elements[-1] <= nbytes
    assert elements[0] < elements[1]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(BudgetError, match=r"the inputs of 3 layer\(s\) at batch 16 need at least"):
        search_ranks(model, graph, LAYERS, x, y, 100)
