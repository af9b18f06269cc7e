from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from kilotune.errors import TrainingError
from kilotune.train.recover import Recovery, answering_loss, recover

RECOVERY = Recovery(side=8, teacher_side=8, epochs=3, batch_size=16, lr=0.01)


def _network(width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, 6)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(160, 3, 1, 1, generator=generator)
    return (torch.rand(160, 3, 12, 12, generator=generator) * 255 * scale).to(torch.uint8)


def test_a_narrow_network_learns_to_answer_as_the_wide_one(images):
    wide, narrow = _network(16), _network(6, seed=1)
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    seen = recover(narrow, wide, images, replace(RECOVERY, epochs=12), device="cpu")
    assert len(seen) == 13
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert seen[-1].share > seen[0].share
    assert not narrow.training
    assert all(torch.equal(before[name], tensor) for name, tensor in wide.state_dict().items())


def test_a_copy_has_nothing_to_learn(images):
    """So both see the same crops: where they did not, even a copy would answer otherwise. Frozen norms, plain sizes."""
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    copy = deepcopy(wide)
    assert {one.loss for one in recover(copy, wide, images, RECOVERY, device="cpu")} == {0.0}
    assert torch.equal(copy[1].weight, wide[1].weight)


def test_the_same_seed_gives_the_same_network(images):
    def weight(seed):
        narrow = _network(6)
        recover(narrow, _network(16), images, replace(RECOVERY, seed=seed), device="cpu")
        return narrow[0].weight

    assert torch.equal(weight(0), weight(0))
    assert not torch.equal(weight(0), weight(1))


def test_what_the_pruned_network_sees_has_gone_through_the_size_of_the_task(images):
    recovery = replace(RECOVERY, side=12, detail=1)
    seen = recovery.view(images)
    assert seen.shape == (160, 3, 12, 12)
    assert torch.allclose(seen, seen[:, :, :1, :1].expand_as(seen))
    assert [augment.size for augment in recovery.augments] == [1, 8]


def test_a_recovery_that_diverges_says_so(images):
    with pytest.raises(TrainingError, match="the recovery diverged in epoch 1; lower its learning rate"):
        recover(_network(6), _network(16), images, replace(RECOVERY, lr=1e30), device="cpu")


def test_the_answering_loss_wants_the_network_to_be_surer_of_its_answers():
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(5, 3)
    answers = model(x).argmax(1)
    assert answering_loss(x)(model) == nn.functional.cross_entropy(model(x), answers)
