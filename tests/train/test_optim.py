import pytest
import torch

from kilotune.errors import RunError
from kilotune.memory.accounting import OPTIMIZER_SLOTS
from kilotune.train.optim import OPTIMIZERS, ledger_name, make_optimizer
from kilotune.train.recipe import Recipe


@pytest.mark.parametrize(("name", "momentum"), [*((name, 0.0) for name in OPTIMIZERS), ("sgd", 0.5), ("momentum", 0.5)])
def test_keeps_what_the_ledger_charges(name, momentum):
    recipe = Recipe.of(optimizer=name, momentum=momentum)
    weight = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = make_optimizer([weight], recipe)
    weight.sum().backward()
    optimizer.step()
    kept = [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor) and value.dim()]
    assert sum(value.numel() for value in kept) == OPTIMIZER_SLOTS[ledger_name(recipe)] * weight.numel()


def test_momentum_of_the_recipe_is_used():
    assert make_optimizer([torch.nn.Parameter(torch.ones(1))], Recipe.of(momentum=0.7)).defaults["momentum"] == 0.7
    assert (
        make_optimizer([torch.nn.Parameter(torch.ones(1))], Recipe.of(optimizer="momentum")).defaults["momentum"] == 0.9
    )


def test_bad_choices():
    with pytest.raises(RunError, match=r"'lion' is unknown; choose one of sgd"):
        ledger_name(Recipe.of(optimizer="lion"))
    with pytest.raises(RunError, match="adam takes none"):
        ledger_name(Recipe.of(optimizer="adam", momentum=0.9))
