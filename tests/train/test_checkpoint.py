import pytest
import torch
from torch import nn

from kilotune.errors import RunError
from kilotune.train.checkpoint import (
    Checkpoint,
    generator_states,
    optimizer_state,
    restore_generators,
    restore_optimizer,
    seeded_generators,
)
from kilotune.train.optim import OPTIMIZERS, make_optimizer
from kilotune.train.recipe import Recipe
from kilotune.train.record import LedgerFigures, Record, birth_certificate
from kilotune.train.tensors import write_tensors
from kilotune.update_plan import ChannelSet, UpdatePlan


def make_live() -> dict[str, nn.Parameter]:
    torch.manual_seed(3)
    return {"a.weight": nn.Parameter(torch.randn(2, 3)), "a.bias": nn.Parameter(torch.randn(3))}


def take_steps(optimizer: torch.optim.Optimizer, live: dict[str, nn.Parameter], n_steps: int) -> None:
    for _ in range(n_steps):
        for parameter in live.values():
            parameter.grad = parameter.detach().sin()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_goes_on_bit_for_bit_whatever_the_order(name):
    recipe = Recipe.of(optimizer=name, lr=0.01)
    straight = make_live()
    optimizer = make_optimizer(straight.values(), recipe)
    take_steps(optimizer, straight, 3)
    tensors, numbers = optimizer_state(optimizer, straight)
    resumed = {key: nn.Parameter(straight[key].detach().clone()) for key in reversed(straight)}
    other = make_optimizer(resumed.values(), recipe)
    restore_optimizer(other, resumed, {key: value.clone() for key, value in tensors.items()}, numbers)
    take_steps(optimizer, straight, 3)
    take_steps(other, resumed, 3)
    assert all(straight[key].equal(resumed[key]) for key in straight)


def test_generators():
    states = seeded_generators(5)
    with torch.random.fork_rng():
        restore_generators(states)
        first = torch.rand(3)
        later = generator_states()
        second = torch.rand(3)
        restore_generators(later)
        assert torch.rand(3).equal(second)
        restore_generators(seeded_generators(5))
        assert torch.rand(3).equal(first)


def test_seeding_leaves_the_generator_alone():
    before = torch.get_rng_state()
    seeded_generators(5)
    assert torch.get_rng_state().equal(before)


def make_checkpoint() -> Checkpoint:
    figures = LedgerFigures(1, 4, 4, 8, 1, 8)
    record = Record(recipe=Recipe.of(), ledger=figures, base_sha256="ab", **birth_certificate(torch.device("cpu")))
    return Checkpoint(
        weights={"conv.weight": torch.randn(2, 2)},
        optimizer={"conv.weight/momentum_buffer": torch.randn(1, 2)},
        generators=seeded_generators(0),
        factors={"conv/1": torch.randn(2, 1)},
        optimizer_numbers={"conv.weight": {"step": 3}},
        plan=UpdatePlan((ChannelSet("conv", "in", (1,)),)),
        selector={"rng": [2**64 - 1, 7]},
        scaler={},
        record=record,
    )


def test_round_trip(tmp_path):
    checkpoint = make_checkpoint()
    checkpoint.write(tmp_path / "c")
    read = Checkpoint.read(tmp_path / "c")
    for part in ("weights", "optimizer", "generators", "factors"):
        ours, theirs = getattr(checkpoint, part), getattr(read, part)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours)
    for part in ("optimizer_numbers", "plan", "selector", "scaler", "record"):
        assert getattr(read, part) == getattr(checkpoint, part)


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(RunError, match="cannot read"):
        Checkpoint.read(tmp_path / "missing")
    write_tensors(tmp_path / "weights", {"w": torch.ones(1)})
    with pytest.raises(RunError, match="not a checkpoint"):
        Checkpoint.read(tmp_path / "weights")
