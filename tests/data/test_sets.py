import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kilotune.data.sets import DATASETS, data_root, load
from kilotune.errors import DataError

SHARED = Path(os.environ.get("KILOTUNE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _data_folder(monkeypatch):
    monkeypatch.setenv("KILOTUNE_DATA", str(SHARED))


def need(file):
    if not (SHARED / file).exists():
        pytest.skip(f"{SHARED / file} is not there")


@pytest.fixture(scope="module")
def reference():
    """The plain readers that came with the data."""
    need("load.py")
    spec = importlib.util.spec_from_file_location("reference_readers", SHARED / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cifar10():
    need("cifar10/train_00.webp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILOTUNE_DATA", str(SHARED))
        return load("cifar10")


def test_cifar10_equals_the_reference_reader(cifar10, reference):
    pixels, labels = reference.cifar10(str(SHARED), "test")
    assert np.array_equal(cifar10.test.images.numpy(), pixels.transpose(0, 3, 1, 2))
    assert np.array_equal(cifar10.test.labels.numpy(), labels)
    last = reference._unmosaic(SHARED / "cifar10" / "train_49.webp", 32)
    assert np.array_equal(cifar10.train.images[-1000:].numpy(), last.transpose(0, 3, 1, 2))
    assert cifar10.classes == tuple(reference.CIFAR10)


def test_cifar10_has_the_published_statistics(cifar10):
    assert (len(cifar10.train), len(cifar10.test), cifar10.val) == (50000, 10000, None)
    assert cifar10.train.labels.bincount().tolist() == [5000] * 10
    assert cifar10.test.labels.bincount().tolist() == [1000] * 10
    # uint8 histograms instead of a float copy of 600 MB
    for c, (mean, std) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), strict=True)):
        histogram = cifar10.train.images[:, c].flatten().bincount(minlength=256).double()
        share, value = histogram / histogram.sum(), torch.arange(256) / 255
        found = (share * value).sum()
        assert abs(found - mean) < 5e-5
        assert abs(((share * value**2).sum() - found**2).sqrt() - std) < 5e-5


def test_train_limit_is_balanced_and_leaves_the_test_split_alone():
    need("vww96/vww_0.jpg")
    first, again, whole = (load("vww96", train_limit=limit, seed=5) for limit in (100, 100, None))
    assert first.train.labels.bincount().tolist() == [50, 50]
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.images, whole.test.images)


# The plain readers leave their files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_flowers102_official_splits(reference):
    need("flowers102/images.bin")
    flowers = load("flowers102")
    assert {part: len(split) for part, split in flowers.splits.items()} == {"train": 1020, "val": 1020, "test": 6149}
    assert flowers.train.labels.bincount().tolist() == [10] * 102
    assert flowers.n_classes == 102
    pixels, labels = reference.flowers102(str(SHARED), "val")
    assert np.array_equal(flowers.val.images.numpy(), pixels.transpose(0, 3, 1, 2))
    assert np.array_equal(flowers.val.labels.numpy(), labels)


def test_vww96_is_split_by_seed(reference):
    need("vww96/vww_0.jpg")
    vww, again, other = load("vww96"), load("vww96"), load("vww96", seed=1)
    assert vww.train.labels.bincount().tolist() == [400, 400]
    assert vww.test.labels.bincount().tolist() == [100, 100]
    assert torch.equal(vww.test.images, again.test.images)
    assert not torch.equal(vww.test.images, other.test.images)
    pixels, labels = reference.vww96(str(SHARED))
    known = {image.tobytes(): label for image, label in zip(pixels.transpose(0, 3, 1, 2), labels, strict=True)}
    for split in (vww.train, vww.test):
        assert [known[image.numpy().tobytes()] for image in split.images] == split.labels.tolist()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match=f"'imagenet' is neither.*{', '.join(DATASETS)}"):
        load("imagenet")


@pytest.mark.parametrize("name", [name for name in DATASETS if not name.startswith("digits")])
def test_missing_data_names_the_folder(tmp_path, monkeypatch, name):
    monkeypatch.setenv("KILOTUNE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path)):
        load(name)


def test_damaged_flowers_index(tmp_path, monkeypatch):
    (tmp_path / "flowers102").mkdir()
    (tmp_path / "flowers102" / "index.json").write_text('{"side": 128}')
    monkeypatch.setenv("KILOTUNE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        load("flowers102")


def test_data_root_without_variable_is_a_cache(monkeypatch):
    monkeypatch.delenv("KILOTUNE_DATA")
    assert data_root().parts[-2:] == (".cache", "kilotune")
