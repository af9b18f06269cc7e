import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kilotune.errors import WeightsError
from kilotune.models import create
from kilotune.models.weights import find, load_into, read


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KILOTUNE_DATA", raising=False)


class Opens:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 4))


def _save(path: Path, tensors: dict) -> str:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_state_dicts_round_trip(tmp_path, suffix, no_data):
    source, target = _net(), _net()
    load_into(target, read(_save(tmp_path / f"w{suffix}", source.state_dict())))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_the_state_dict_inside_a_training_checkpoint_is_found(tmp_path, wrapper, no_data):
    content = {wrapper: _net().state_dict(), "epoch": 3}
    assert set(read(_save(tmp_path / "w.pt", content)).tensors) == set(_net().state_dict())


def test_nothing_in_a_pickle_is_executed(tmp_path, no_data):
    victim, path = tmp_path / "victim", tmp_path / "w.pt"
    torch.save({"a": Opens(victim)}, path)
    with pytest.raises(WeightsError, match="would execute code"):
        read(str(path))
    path.write_bytes(pickle.dumps(Opens(victim)))
    with pytest.raises(WeightsError, match=r"would execute code|corrupt"):
        read(str(path))
    assert not victim.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut off"])
def test_corrupt_files_are_named(tmp_path, suffix, content, no_data):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="broken"):
        read(str(path))


def test_a_whole_saved_value_is_no_state_dict(tmp_path, no_data):
    with pytest.raises(WeightsError, match="holds no state dict"):
        read(_save(tmp_path / "w.pt", {"lr": 0.1}))


def test_unknown_formats_are_refused(tmp_path, no_data):
    path = tmp_path / "w.onnx"
    path.touch()
    with pytest.raises(WeightsError, match=r"unknown format.*\.safetensors, \.pt"):
        read(str(path))


def test_without_data_the_variable_to_set_is_named(no_data):
    with pytest.raises(WeightsError, match="set KILOTUNE_DATA"):
        find("mcunet_in2")


def test_unknown_entries_list_the_known_ones(data_root):
    with pytest.raises(WeightsError, match="neither a file nor one of the entries mcunet_in2, mcunet_in3"):
        find("mcunet_in9")


def test_the_path_of_an_entry_means_the_entry(data_root):
    assert find(str(data_root / "weights" / "mcunet_in2.safetensors")) == find("mcunet_in2")


def test_an_entry_whose_file_is_gone_is_named(data_root, tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "models.json").write_bytes((data_root / "weights" / "models.json").read_bytes())
    monkeypatch.setenv("KILOTUNE_DATA", str(tmp_path))
    with pytest.raises(WeightsError, match=r"mcunet_in2 needs the file .*mcunet_in2\.safetensors"):
        read("mcunet_in2")


def test_every_misfit_is_counted_and_nothing_is_loaded(tmp_path, no_data):
    tensors = _net().state_dict()
    tensors["0.weight"] = torch.zeros(2, 1, 5, 5)
    tensors["extra.weight"] = torch.zeros(1)
    del tensors["3.bias"], tensors["1.running_mean"]
    target = _net()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_into(target, read(_save(tmp_path / "w.pt", tensors)))
    message = str(error.value)
    assert "2 missing (1.running_mean, 3.bias)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "1 of another shape (0.weight (2, 1, 5, 5) instead of (2, 1, 3, 3))" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_long_lists_are_shortened(tmp_path, no_data):
    with pytest.raises(WeightsError, match=r"missing \(([^,]+, ){3}\.\.\.\); 1 unexpected"):
        load_into(create("mcunet_in1"), read(_save(tmp_path / "w.pt", {"a": torch.zeros(1)})))


def test_counters_of_batch_norm_may_be_missing(tmp_path, no_data):
    source, target = _net(), _net()
    tensors = {name: tensor for name, tensor in source.state_dict().items() if "num_batches" not in name}
    load_into(target, read(_save(tmp_path / "w.safetensors", tensors)))
    assert torch.equal(target[0].weight, source[0].weight)


def test_public_checkpoints_with_skipped_blocks_load(tmp_path, no_data):
    """MIT's searched networks number their blocks with gaps."""
    source, target = create("mcunet_in1"), create("mcunet_in1")
    shifted = {name.replace("blocks.13.", "blocks.17."): tensor for name, tensor in source.state_dict().items()}
    load_into(target, read(_save(tmp_path / "w.pth", {"state_dict": shifted})))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_without_head_the_classifier_stays(tmp_path, no_data):
    source, target = _net(), _net()
    head = target[3].weight.clone()
    load_into(target, read(_save(tmp_path / "w.pt", source.state_dict())), with_head=False)
    assert torch.equal(target[3].weight, head)
    assert torch.equal(target[0].weight, source[0].weight)
