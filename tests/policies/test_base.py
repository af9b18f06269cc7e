"""Tasks and the memory of policies."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from kilotune.errors import RankingError
from kilotune.memory.cost import ChannelTable
from kilotune.policies.base import State, Task
from kilotune.policies.ranking import structural


def test_task_takes_the_ranking_given(mcunet, mobilenet):
    ranking = replace(structural(mcunet), task="mine")
    assert Task.of(mcunet, ranking).ranking.task == "mine"
    with pytest.raises(RankingError, match="the ranking is that of mcunet_in1"):
        Task.of(mobilenet, ranking)


def test_task_estimates_a_ranking_for_an_unknown_network(build):
    assert Task.of(build.chain([build.layer("a", 3, 4)])).ranking.task == "none"


def test_ranked_is_best_first_and_stable(build):
    graph = build.chain([build.layer(name, 3, 4) for name in "abcd"])
    ranking = replace(structural(graph), rgn=(1.0, 2.0, 1.0, 3.0))
    assert Task.of(graph, ranking).ranked("rgn").tolist() == [3, 1, 0, 2]


def test_missing_ranking_says_what_to_run(mcunet):
    with pytest.raises(RankingError, match="kilotune rank mcunet_in1 --data D"):
        Task(mcunet, ChannelTable.of(mcunet)).scores("lara")


def test_state_survives_json():
    state = State(3, {7: float(np.float32(0.1))}, {1: [4, 3]}, {1: 1}, [2, 5])
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
