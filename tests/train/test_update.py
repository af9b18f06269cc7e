import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kilotune.errors import WeightsError
from kilotune.train.tensors import read_tensors, snapshot
from kilotune.train.update import apply_update, fingerprint, write_update


def make(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 5))


def tune(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight[:, 1] += 0.1
        model[3].weight.normal_()
        model[3].bias[2] = float("nan")


def same(a: nn.Module, b: nn.Module) -> bool:
    return fingerprint(a.state_dict()) == fingerprint(b.state_dict())


def test_makes_the_tuned_model_from_another_copy(tmp_path):
    model, copy = make(), make()
    base = snapshot(model.state_dict())
    tune(model)
    write_update(tmp_path / "u", base, model.state_dict())
    apply_update(copy, tmp_path / "u")
    assert same(copy, model)


def test_stores_only_what_changed(tmp_path):
    model = make()
    base = snapshot(model.state_dict())
    tune(model)
    write_update(tmp_path / "u", base, model.state_dict())
    tensors, _ = read_tensors(tmp_path / "u")
    assert sorted(tensors) == [
        "indices/0.weight",
        "indices/3.bias",
        "values/0.weight",
        "values/3.bias",
        "whole/3.weight",
    ]
    assert len(tensors["indices/0.weight"]) == 8 * 9


def test_a_new_classifier_may_start_from_other_numbers(tmp_path):
    model, copy = make(), make()
    base = snapshot(model.state_dict())
    tune(model)
    write_update(tmp_path / "u", base, model.state_dict())
    copy[3].weight.data.zero_()
    apply_update(copy, tmp_path / "u")
    assert same(copy, model)


def test_refuses_another_base_and_leaves_it_alone(tmp_path):
    model, other = make(), make()
    base = snapshot(model.state_dict())
    tune(model)
    write_update(tmp_path / "u", base, model.state_dict())
    other[0].weight.data[0, 0, 0, 0] += 1e-6
    before = fingerprint(other.state_dict())
    with pytest.raises(WeightsError, match="SHA-256"):
        apply_update(other, tmp_path / "u")
    assert fingerprint(other.state_dict()) == before


def test_refuses_another_architecture(tmp_path):
    model = make()
    base = snapshot(model.state_dict())
    tune(model)
    write_update(tmp_path / "u", base, model.state_dict())
    with pytest.raises(WeightsError, match=r"3\.weight \(5, 32\)"):
        apply_update(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 6)), tmp_path / "u"
        )


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_change_survives(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64]))
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    base = {"w": torch.randint(-9, 9, shape).to(dtype)}
    tuned = {"w": torch.where(torch.rand(shape) < data.draw(st.sampled_from([0.1, 0.5, 1.0])), -base["w"], base["w"])}
    path = tmp_path_factory.mktemp("update") / "u"
    write_update(path, base, tuned)
    module = nn.Module()
    module.register_buffer("w", base["w"].clone())
    apply_update(module, path)
    assert fingerprint(module.state_dict()) == fingerprint(tuned)
