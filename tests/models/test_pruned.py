import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kilotune import models
from kilotune.errors import WeightsError
from kilotune.models.pruned import Pruned, metadata, narrow
from tests.oracles.networks import randomise

ORIGIN = Pruned("digitnet", 40, 0.25, 0.75, {"ratio": 0.5})


def _narrow_digitnet() -> nn.Module:
    """digitnet whose first depthwise layer lost half of its channels, cut by hand."""
    model = randomise(models.create("digitnet", classes=4))
    expand, depthwise, project = model.features[1].conv[0], model.features[1].conv[1], model.features[1].conv[2]
    rows = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("features.1.conv")}
    half = len(expand[0].weight) // 2
    state = dict(model.state_dict())
    for name, tensor in rows.items():
        if name.startswith(("features.1.conv.0", "features.1.conv.1")) and tensor.dim():
            state[name] = tensor[:half]
    state["features.1.conv.2.weight"] = project.weight.detach()[:, :half]
    narrow(model, state).load_state_dict(state)
    assert (depthwise[0].groups, depthwise[0].in_channels, expand[1].num_features) == (half, half, half)
    return model.eval()


def test_a_file_of_a_pruned_network_is_loaded_like_any_other(tmp_path):
    model, file = ORIGIN.attach(_narrow_digitnet()), tmp_path / "small.safetensors"
    save_file(model.state_dict(), file, metadata(model))
    loaded = models.load("digitnet", str(file))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.model.eval()(x), model(x))
    assert (loaded.resolution, loaded.mean, loaded.std, loaded.new_head) == (40, 0.25, 0.75, False)
    assert Pruned.of(loaded.model) == ORIGIN


@pytest.mark.parametrize("classes", [2, 7])
def test_a_pruned_network_gets_a_new_classifier_for_other_classes(tmp_path, classes):
    model, file = ORIGIN.attach(_narrow_digitnet()), tmp_path / "small.safetensors"
    save_file(model.state_dict(), file, metadata(model))
    loaded = models.load("digitnet", str(file), classes=classes)
    assert loaded.new_head
    assert loaded.model(torch.zeros(2, 3, 32, 32)).shape == (2, classes)


def test_narrow_tensors_without_the_metadata_are_a_misfit_as_ever(tmp_path):
    file = tmp_path / "small.safetensors"
    save_file(_narrow_digitnet().state_dict(), file)
    with pytest.raises(WeightsError, match="of another shape"):
        models.load("digitnet", str(file))


def test_damaged_metadata(tmp_path):
    model, file = _narrow_digitnet(), tmp_path / "small.safetensors"
    save_file(model.state_dict(), file, {"kilotune.pruned": "{"})
    with pytest.raises(WeightsError, match=r"description of the pruned network .*small.safetensors is damaged"):
        models.load("digitnet", str(file))


def test_other_networks_have_no_origin():
    model = models.create("digitnet")
    assert Pruned.of(model) is None
    assert metadata(model) == {}


def test_the_wrong_model_is_refused(tmp_path):
    model, file = ORIGIN.attach(_narrow_digitnet()), tmp_path / "small.safetensors"
    save_file(model.state_dict(), file, metadata(model))
    with pytest.raises(WeightsError, match="choose the model it was pruned from"):
        models.load("mobilenet_v2_w0.35", str(file))
    with pytest.raises(WeightsError, match=r"lacks conv1\.weight"):
        models.load("resnet18", str(file))


def test_grouped_layers_keep_their_groups():
    conv = nn.Sequential(nn.Conv2d(12, 6, 3, groups=2))
    narrow(conv, {"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)})
    assert (conv[0].in_channels, conv[0].out_channels, conv[0].groups) == (6, 4, 2)
    assert conv(torch.zeros(1, 6, 4, 4)).shape == (1, 4, 2, 2)


def test_a_layer_that_reads_one_channel_is_not_a_depthwise_one():
    conv = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False))
    narrow(conv, {"0.weight": torch.zeros(3, 1, 3, 3)})
    assert (conv[0].in_channels, conv[0].out_channels, conv[0].groups) == (1, 3, 1)


def test_a_depthwise_layer_keeps_its_multiplier():
    conv = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, bias=False))
    narrow(conv, {"0.weight": torch.zeros(6, 1, 3, 3)})
    assert (conv[0].in_channels, conv[0].out_channels, conv[0].groups) == (3, 6, 3)


@pytest.mark.parametrize(
    ("model", "tensors"),
    [
        (nn.Sequential(nn.Linear(4, 2, bias=False)), {"0.weight": torch.zeros(2, 5)}),
        (nn.Sequential(nn.Linear(4, 2, bias=False)), {"0.weight": torch.zeros(2, 4, 1)}),
        (nn.Sequential(nn.LayerNorm(4)), {"0.weight": torch.zeros(3), "0.bias": torch.zeros(3)}),
    ],
)
def test_layers_that_have_no_such_form(model, tensors):
    with pytest.raises(WeightsError, match="only Conv2d, Linear, BatchNorm2d, BatchNorm1d become narrower"):
        narrow(model, tensors)
