import pytest
import torch

from kilotune.errors import RunError
from kilotune.train.tensors import read_tensors, snapshot, under, write_tensors


def test_round_trip_of_shared_and_strided_tensors(tmp_path):
    weight = torch.randn(2, 3, 4, 4)
    tensors = {"tied/a": weight, "tied/b": weight, "turned": weight.to(memory_format=torch.channels_last)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"note": "x"})
    read, about = read_tensors(tmp_path / "t.safetensors")
    assert about == {"note": "x"}
    assert all(read[name].equal(weight) for name in tensors)
    assert sorted(under("tied", read)) == ["a", "b"]


def test_snapshot_is_a_copy():
    weight = torch.zeros(3)
    copy = snapshot({"w": weight})
    weight += 1
    assert copy["w"].equal(torch.zeros(3))


def test_missing_and_corrupt(tmp_path):
    with pytest.raises(RunError, match="gone"):
        read_tensors(tmp_path / "gone")
    (tmp_path / "half").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(RunError, match="half"):
        read_tensors(tmp_path / "half")
