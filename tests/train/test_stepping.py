import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kilotune.errors import DataError, RunError
from kilotune.train.recipe import Recipe
from kilotune.train.stepping import Stepper, evaluate, find_device

CPU = torch.device("cpu")
# Sums over the images are taken in another order: a few units in the last place of float64.
TOLERANCE = 1e-12


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 4)).double()


@pytest.mark.parametrize("sizes", [[8], [4, 4], [1] * 8, [5, 3], [1, 7]])
def test_accumulation_is_one_large_batch(sizes):
    """Micro-batches of any sizes give the gradient of the mean loss over all images."""
    x, y = torch.randn(8, 3, 2, 2, dtype=torch.float64), torch.randint(4, (8,))
    ours, oracle = make(), make()
    stepper = Stepper(ours, Recipe.of(), CPU)
    loss = stepper.gradient(list(zip(x.split(sizes), y.split(sizes), strict=True)))
    expected = cross_entropy(oracle(x), y)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=TOLERANCE, atol=TOLERANCE, check_dtype=False)
    for a, b in zip(ours.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=TOLERANCE, atol=TOLERANCE)


def test_update_is_plain_sgd_at_the_given_rate():
    model = make()
    before = copy.deepcopy(model)
    stepper = Stepper(model, Recipe.of(lr=9.0), CPU)
    stepper.gradient([(torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.tensor([1, 2]))])
    stepper.update(0.25)
    for old, new in zip(before.parameters(), model.parameters(), strict=True):
        assert new.equal(old - 0.25 * new.grad)


def test_gradients_do_not_pile_up_over_steps():
    stepper = Stepper(make(), Recipe.of(), CPU)
    batch = (torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.tensor([1, 2]))
    stepper.gradient([batch])
    first = [p.grad.clone() for p in stepper.step.parameters()]
    stepper.gradient([batch])
    assert all(a.equal(p.grad) for a, p in zip(first, stepper.step.parameters(), strict=True))


def test_evaluate_against_one_pass():
    model = make().float()
    x, y = torch.randn(10, 3, 2, 2), torch.randint(4, (10,))
    model.train()
    found = evaluate(model, zip(x.split(3), y.split(3), strict=True))
    assert model.training
    assert found.n == 10
    assert found.accuracy == pytest.approx(model(x).argmax(1).eq(y).float().mean().item())
    assert found.loss == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-5)


def test_nothing_to_evaluate():
    with pytest.raises(DataError, match="no batch"):
        evaluate(make(), [])


def test_devices():
    assert find_device("cpu") == CPU
    with pytest.raises(RunError, match="no device 'abacus'"):
        find_device("abacus")
