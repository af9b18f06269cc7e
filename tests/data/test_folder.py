import numpy as np
import pytest
import torch
from PIL import Image

from kilotune.data.sets import load
from kilotune.errors import DataError


def fill(folder, counts, suffix="png"):
    """``counts``: class -> number of images; every image one grey value of its own."""
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            grey = np.full((12, 16, 3), 40 * label + i, np.uint8)
            Image.fromarray(grey).save(folder / name / f"{i:03d}.{suffix}")
    return folder


def greys(split):
    return split.images[:, 0, 3, 3].tolist()


def test_train_and_val_folders(tmp_path):
    fill(tmp_path / "train", {"cat": 3, "dog": 2})
    fill(tmp_path / "val", {"cat": 1, "dog": 2})
    dataset = load(tmp_path, size=8)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape == (5, 3, 8, 8)
    assert (greys(dataset.train), dataset.train.labels.tolist()) == ([0, 1, 2, 40, 41], [0, 0, 0, 1, 1])
    assert (greys(dataset.test), dataset.test.labels.tolist()) == ([0, 40, 41], [0, 1, 1])
    assert dataset.val is None


def test_val_and_test_folders_are_both_there(tmp_path):
    for part, n in (("train", 3), ("val", 2), ("test", 1)):
        fill(tmp_path / part, {"cat": n, "dog": n})
    dataset = load(str(tmp_path), size=8)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 6, "val": 4, "test": 2}


@pytest.mark.parametrize("below", ["", "train"])
def test_one_folder_of_classes_is_split_by_seed(tmp_path, below):
    fill(tmp_path / below, {"cat": 10, "dog": 15})
    (tmp_path / below / "cat" / "._000.png").write_bytes(b"not an image")
    (tmp_path / below / "cat" / "notes.txt").write_text("not an image")
    dataset, again, other = (load(tmp_path, size=8, seed=seed) for seed in (0, 0, 1))
    assert dataset.test.labels.bincount().tolist() == [2, 3]
    assert sorted(greys(dataset.train) + greys(dataset.test)) == [*range(10), *range(40, 55)]
    assert torch.equal(dataset.test.images, again.test.images)
    assert not torch.equal(dataset.test.images, other.test.images)


def test_train_limit_decodes_only_what_it_takes(tmp_path):
    fill(tmp_path / "train", {"cat": 10, "dog": 10})
    fill(tmp_path / "test", {"cat": 1, "dog": 1})
    seen = []
    dataset = load(tmp_path, size=8, train_limit=4, progress=lambda done, total: seen.append((done, total)))
    assert dataset.train.labels.bincount().tolist() == [2, 2]
    assert seen == [(i, 6) for i in range(1, 7)]


def test_default_side(tmp_path):
    dataset = load(fill(tmp_path, {"cat": 2, "dog": 2}, suffix="JPEG"))
    assert dataset.train.images.shape[1:] == (3, 160, 160)


def test_empty_class_folder_is_named(tmp_path):
    fill(tmp_path / "train", {"cat": 2, "dog": 2, "eel": 0})
    fill(tmp_path / "val", {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match=r"train/eel has no image.*\.png"):
        load(tmp_path)


def test_unreadable_image_is_named(tmp_path):
    fill(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "dog" / "001.png").write_bytes(b"\x89PNG\r\n but no more")
    with pytest.raises(DataError, match=r"dog/001\.png.*repair or remove"):
        load(tmp_path)


def test_class_that_training_does_not_know_is_named(tmp_path):
    fill(tmp_path / "train", {"cat": 2, "dog": 2})
    fill(tmp_path / "val", {"cat": 2, "fox": 2})
    with pytest.raises(DataError, match=r"val/fox is no class of the training images, which are cat, dog"):
        load(tmp_path)


def test_single_image_cannot_be_split(tmp_path):
    fill(tmp_path, {"cat": 3, "dog": 1})
    with pytest.raises(DataError, match="class dog has a single image"):
        load(tmp_path)


@pytest.mark.parametrize("counts", [{}, {"cat": 3}])
def test_too_few_classes(tmp_path, counts):
    fill(tmp_path, counts)
    with pytest.raises(DataError, match=f"has {len(counts)} class folders"):
        load(tmp_path)


def test_empty_val_folder(tmp_path):
    fill(tmp_path / "train", {"cat": 2, "dog": 2})
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="val has no class folders"):
        load(tmp_path)


@pytest.mark.parametrize("size", [0, -5])
def test_impossible_size(tmp_path, size):
    with pytest.raises(DataError, match=f"size {size} is impossible"):
        load(fill(tmp_path, {"cat": 2, "dog": 2}), size=size)
