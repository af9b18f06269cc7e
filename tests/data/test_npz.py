import numpy as np
import pytest
import torch

from kilotune.data.sets import load
from kilotune.errors import DataError


def arrays(**changes):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.integers(0, 256, (3, 5, 7, 3), dtype=np.uint8),
        "y_test": np.array([2, 1, 0]),
    } | changes


def save(tmp_path, content):
    path = tmp_path / "data.npz"
    np.savez(path, **content)
    return path


def test_channels_last(tmp_path):
    content = arrays()
    dataset = load(save(tmp_path, content))
    assert np.array_equal(dataset.train.images.numpy(), content["x_train"].transpose(0, 3, 1, 2))
    assert dataset.test.labels.tolist() == [2, 1, 0]
    assert dataset.classes == ("0", "1", "2")


def test_channels_first_and_column_of_labels(tmp_path):
    content = arrays()
    first = {key: content[key].transpose(0, 3, 1, 2) for key in ("x_train", "x_test")}
    dataset = load(save(tmp_path, content | first | {"y_train": content["y_train"][:, None].astype(np.uint8)}))
    assert np.array_equal(dataset.train.images.numpy(), first["x_train"])
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_grey_images(tmp_path):
    content = arrays()
    dataset = load(save(tmp_path, content | {key: content[key][..., 0] for key in ("x_train", "x_test")}))
    assert dataset.train.images.shape == (6, 1, 5, 7)


@pytest.mark.parametrize("dtype", [np.int64, np.uint16])
def test_texts(tmp_path, dtype):
    ids = np.arange(30, dtype=dtype).reshape(6, 5)
    dataset = load(save(tmp_path, arrays() | {"x_train": ids, "x_test": ids[:3]}))
    assert dataset.train.is_text
    assert dataset.train.images.dtype == torch.int64
    assert dataset.test.images.tolist() == ids[:3].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((6, 5, 7, 3), np.float32)}, r"x_train is float32 \(6, 5, 7, 3\); images must be uint8"),
        ({"x_train": np.zeros((6, 5, 7, 4), np.uint8)}, r"shape \(6, 5, 7, 4\); it must be"),
        ({"x_train": np.zeros((6, 3, 7, 3), np.uint8)}, "plain which"),
        ({"x_train": np.zeros((6, 5), np.uint8)}, r"shape \(6, 5\)"),
        ({"x_train": np.full((6, 5), -2)}, "the token id -2; ids count from 0"),
        ({"x_train": np.uint8(3)}, "one per image"),
        ({"x_test": np.zeros((3, 8, 8, 3), np.uint8)}, r"test images are \(3, 8, 8\)"),
        ({"x_test": np.zeros((0, 5, 7, 3), np.uint8), "y_test": np.zeros(0, int)}, "at least one"),
        ({"y_train": np.zeros(6)}, "y_train is float64"),
        ({"y_train": np.arange(5)}, r"y_train is int64 \(5,\)"),
        ({"y_train": np.int64(3)}, r"y_train is int64 \(\)"),
        ({"y_train": np.eye(6, dtype=int)}, r"\(6, 6\)"),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, "label -1"),
        ({"y_train": np.array([1, 2, 3, 1, 2, 3])}, "goes up to 3 but has no 0"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 10**12])}, "but has no 3"),
        ({"y_test": np.array([2, 1, 3])}, "test labels run from 1 to 3"),
        ({"y_test": np.array([None, 1, 2])}, "Object arrays"),
    ],
)
def test_wrong_content_is_explained(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(save(tmp_path, arrays(**changes)))


def test_missing_array_is_named(tmp_path):
    content = arrays()
    del content["x_test"]
    with pytest.raises(DataError, match="has arrays x_train, y_train, y_test; x_test missing"):
        load(save(tmp_path, content))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"hello"])
def test_damaged_file_is_named(tmp_path, damage):
    path = save(tmp_path, arrays())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"cannot read .*data\.npz"):
        load(path)
