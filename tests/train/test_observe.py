import numpy as np
import torch

from kilotune.train.observe import StepMean


def test_mean_over_steps():
    norms = StepMean()
    steps = [{"a": torch.rand(3), "b": torch.rand(2)} for _ in range(5)]
    for step in steps:
        norms.add(step)
    for layer in "ab":
        np.testing.assert_allclose(
            norms.mean()[layer], torch.stack([s[layer] for s in steps]).mean(0).numpy(), rtol=1e-6
        )


def test_nothing_seen():
    norms = StepMean()
    norms.add({})
    assert norms.mean() == {}


def test_a_step_that_overflowed_is_left_out():
    norms = StepMean()
    norms.add({"a": torch.tensor([1.0, torch.inf]), "b": torch.tensor([5.0])})
    assert norms.mean() == {}
    norms.add({"a": torch.tensor([2.0, 3.0]), "b": torch.tensor([4.0])})
    assert norms.mean()["a"].tolist() == [2.0, 3.0]
    assert norms.mean()["b"].tolist() == [4.0]
