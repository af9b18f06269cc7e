import torch
from torch import nn

from kilotune import models
from kilotune.prune.unfold import unfold
from tests.oracles.networks import randomise

# The same products in float64, divided by a deviation and multiplied by it again.
TOLERANCE = 1e-9


def _folded() -> nn.Module:
    return randomise(models.create("mobilenet_v2_w0.35", classes=5, folded=True).double().eval())


def test_the_network_computes_the_same_with_batch_norms_as_without():
    model, x = _folded(), torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        assert (unfold(model, x)(x) - before).abs().max() < TOLERANCE * before.abs().max()
    names = models.create("mobilenet_v2_w0.35", classes=5).state_dict().keys()
    assert model.state_dict().keys() == names  # it is the network of the zoo that is not folded


def test_in_training_mode_it_still_computes_the_same_on_the_images_it_was_measured_on():
    model, x = _folded(), torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        unfold(model, x).train()
        model.classifier[0].eval()  # the dropout
        assert (model(x) - before).abs().max() < TOLERANCE * before.abs().max()


def test_a_network_that_has_batch_norms_stays_as_it_is():
    model = models.create("digitnet").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = unfold(model, torch.zeros(2, 3, 32, 32)).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
