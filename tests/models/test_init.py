import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kilotune.errors import ModelError, WeightsError
from kilotune.models import MODELS, create, load

# Two float32 programs that add in different orders, through up to 61 convolutions, outputs up to 17: the largest
# difference seen was 3.6e-5. A wrong epsilon or padding changes outputs by more than 0.1.
GOLDEN_TOLERANCE = 2e-4

MODEL_OF_ENTRY = {
    "mcunet_in2": "mcunet_in2",
    "mcunet_in3": "mcunet_in3",
    "proxyless_w0.3": "proxylessnas_w0.3",
    "mbv2_w0.35_backbone": "mobilenet_v2_w0.35_same",
    "mbv2_w1.0_int8": "mobilenet_v2_same",
    "mcunet_in4_int8": "mcunet_in4",
    "mbv2_w0.35_int8": "mobilenet_v2_w0.35_nohead",
    "proxyless_w0.3_int8": "proxylessnas_w0.3_nomix",
    "mcunet_5fps_int8": "mcunet_in1",
}


@pytest.mark.parametrize("name", [*MODELS, "mobilenet_v2_w0.35_mix", "mobilenet_v2_w0.5_nohead_same"])
@pytest.mark.parametrize("folded", [True, False])
def test_every_network_makes_logits(name, folded):
    model = create(name, classes=7, folded=folded).eval()
    logits = model(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("entry", MODEL_OF_ENTRY)
def test_every_entry_reproduces_its_golden_output(data_root, entry):
    loaded = load(MODEL_OF_ENTRY[entry], entry)
    golden = _golden(data_root)
    model = loaded.model.eval()
    if entry == "mbv2_w0.35_backbone":
        assert loaded.new_head
        model.classifier = nn.Identity()
    with torch.no_grad():
        output = model(_normalise(golden[f"input_{loaded.resolution}"], loaded)).numpy()
    assert np.abs(output - golden[f"output_{entry}"]).max() < GOLDEN_TOLERANCE
    assert loaded.folded == entry.endswith("int8")
    assert loaded.source == entry


def test_the_golden_tolerance_tells_a_wrong_epsilon(data_root):
    loaded = load("proxylessnas_w0.3", "proxyless_w0.3")
    for module in loaded.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.eps == 1e-3
            module.eps = 1e-5
    golden = _golden(data_root)
    with torch.no_grad():
        output = loaded.model.eval()(_normalise(golden["input_176"], loaded)).numpy()
    assert np.abs(output - golden["output_proxyless_w0.3"]).max() > 0.1


@pytest.mark.parametrize(
    ("model", "entry", "found", "way_out"),
    [
        ("mobilenet_v2_w0.35", "mbv2_w0.35_backbone", "padding is symmetric, not tf_same", "mobilenet_v2_w0.35_same"),
        ("mobilenet_v2_w0.35_mix", "mbv2_w0.35_int8", "is 448, not absent", "mobilenet_v2_w0.35_nohead"),
        ("mcunet_in2", "mcunet_in3", "block 1 and 15 more differ", "mcunet_in3"),
        ("resnet18", "mbv2_w1.0_int8", "another kind of network", "mobilenet_v2_same"),
    ],
)
def test_a_misfit_says_which_model_fits(data_root, model, entry, found, way_out):
    with pytest.raises(WeightsError, match=rf"{found}.*; use the model {way_out}$"):
        load(model, entry)


@pytest.mark.parametrize(
    ("classes", "expected", "new_head"), [(None, 1000, False), (1000, 1000, False), (10, 10, True)]
)
def test_another_number_of_classes_makes_a_new_head_and_says_so(data_root, classes, expected, new_head):
    loaded = load("mcunet_in1", "mcunet_5fps_int8", classes)
    assert loaded.model.classifier.linear.out_features == expected
    assert loaded.new_head == new_head


def test_the_new_head_depends_on_the_seed_alone(data_root):
    state = torch.get_rng_state()
    first, again, other = (load("mcunet_in1", "mcunet_5fps_int8", 10, seed).model for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.classifier.linear.weight, again.classifier.linear.weight)
    assert not torch.equal(first.classifier.linear.weight, other.classifier.linear.weight)
    assert torch.equal(first.first_conv.conv.weight, other.first_conv.conv.weight)


def test_random_networks_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (load("mcunet_in1", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.model.first_conv.conv.weight, other.model.first_conv.conv.weight)
    assert first.new_head
    assert first.source == "random weights from seed 1"


@pytest.mark.parametrize("folded", [True, False])
def test_a_saved_network_loads_back_with_its_classes(tmp_path, folded):
    model = create("mcunet_in1", classes=6, folded=folded)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded = load("mcunet_in1", str(tmp_path / "w.safetensors"))
    assert (loaded.folded, loaded.new_head) == (folded, False)
    for a, b in zip(model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_backbone_file_without_classifier_gets_a_new_head(tmp_path):
    tensors = {n: t for n, t in create("mcunet_in1").state_dict().items() if not n.startswith("classifier")}
    save_file(tensors, tmp_path / "w.safetensors")
    assert load("mcunet_in1", str(tmp_path / "w.safetensors"), classes=5).new_head


@pytest.mark.parametrize("name", ["mcunet", "resnet19", "mobilenet_v2_same_mix", ""])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ModelError, match=r"there is no model.*mcunet_in1.*module:callable"):
        create(name)


USERS = """
import torch
from torch import nn
def fixed(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
def chosen(num_classes=5): return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))
def headless(): return nn.Conv2d(3, 4, 1)
def wrong(): return 3
def failing(): raise ValueError("no such file")
"""


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    (tmp_path / "users_own_net.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("users_own_net", None)


@pytest.mark.parametrize("function", ["fixed", "chosen"])
@pytest.mark.parametrize(("classes", "expected"), [(None, 5), (3, 3)])
def test_a_users_network_is_imported_from_the_current_folder(users_folder, function, classes, expected):
    path = list(sys.path)
    loaded = load(f"users_own_net:{function}", classes=classes)
    assert loaded.model(torch.zeros(2, 3, 2, 2)).shape == (2, expected)
    assert sys.path == path


def test_a_users_own_classifier_of_the_right_size_is_kept(users_folder):
    head = create("users_own_net:fixed")[1]
    assert head.weight.abs().max() > 0.05  # A new one would be drawn from N(0, 0.01).
    assert load("users_own_net:fixed", classes=head.out_features).model[1].weight.abs().max() > 0.05


def test_a_users_checkpoint_loads_into_the_users_network(users_folder):
    model = create("users_own_net:fixed")
    torch.save(model.state_dict(), "w.pt")
    assert torch.equal(load("users_own_net:fixed", "w.pt").model[1].weight, model[1].weight)
    assert load("users_own_net:fixed", "w.pt", classes=9).new_head


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("users_own_net:wrong", None, "returned int"),
        ("users_own_net:failing", None, "ValueError: no such file"),
        ("users_own_net:missing", None, "AttributeError"),
        ("no_such_module:net", None, "ModuleNotFoundError"),
        (":net", None, "cannot be imported"),
        ("users_own_net:", None, "cannot be imported"),
        ("users_own_net:headless", 3, "no linear layer"),
    ],
)
def test_what_is_wrong_with_a_users_network_is_said(users_folder, name, classes, message):
    with pytest.raises(ModelError, match=message):
        create(name, classes)


def test_importing_kilotune_does_not_import_torch():
    code = "import sys, kilotune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _golden(data_root):
    path = data_root / "weights" / "golden.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return np.load(path)


def _normalise(images, loaded):
    pixels = torch.from_numpy(images.astype(np.float32)) / 255
    return ((pixels - loaded.mean) / loaded.std).permute(0, 3, 1, 2).contiguous()
