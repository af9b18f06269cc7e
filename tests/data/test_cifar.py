import numpy as np
import pytest

from kilotune.data import cifar
from kilotune.data.sets import load
from kilotune.errors import DataError


def write(root, layout, n_per_file=6):
    """Random records in the official binary form, and what must be read from them: split -> (pixels, labels)."""
    folder = root / layout.folder
    folder.mkdir(parents=True)
    (folder / layout.class_names).write_text("\n".join(f"class_{i}" for i in range(layout.n_classes)) + "\n\n")
    rng = np.random.default_rng(0)
    expected = {}
    for part, files in (("train", layout.train), ("test", layout.test)):
        pixels = rng.integers(0, 256, (len(files) * n_per_file, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, layout.n_classes, len(pixels))
        for number, file in enumerate(files):
            content = b""
            for i in range(number * n_per_file, (number + 1) * n_per_file):
                coarse = [int(labels[i]) // 5] * (layout.n_labels - 1)
                content += bytes([*coarse, int(labels[i])]) + pixels[i].tobytes()
            (folder / file).write_bytes(content)
        expected[part] = pixels, labels
    return expected


@pytest.mark.parametrize(("name", "layout"), [("cifar10", cifar.CIFAR10), ("cifar100", cifar.CIFAR100)])
def test_binary_form(tmp_path, monkeypatch, name, layout):
    expected = write(tmp_path, layout)
    monkeypatch.setenv("KILOTUNE_DATA", str(tmp_path))
    dataset = load(name)
    for part, (pixels, labels) in expected.items():
        assert np.array_equal(dataset.splits[part].images.numpy(), pixels)
        assert dataset.splits[part].labels.tolist() == labels.tolist()
    assert dataset.n_classes == layout.n_classes
    assert dataset.classes[3] == "class_3"


def test_record_lengths_are_those_of_the_published_files():
    # https://www.cs.toronto.edu/~kriz/cifar.html: "<1 x label><3072 x pixel>", "<1 x coarse><1 x fine><3072 x pixel>".
    assert cifar.CIFAR10.n_labels + 3072 == 3073
    assert cifar.CIFAR100.n_labels + 3072 == 3074


def test_cut_file_is_named(tmp_path):
    write(tmp_path, cifar.CIFAR100)
    path = tmp_path / "cifar-100-binary" / "test.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test\.bin has 18,443 bytes, not a multiple of 3074"):
        cifar.read_binary("cifar100", tmp_path, cifar.CIFAR100)


def test_impossible_label_is_refused(tmp_path):
    write(tmp_path, cifar.CIFAR10)
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match="test labels run from 10 to 10"):
        cifar.read_binary("cifar10", tmp_path, cifar.CIFAR10)


def test_missing_file_says_where_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KILOTUNE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"cifar100 is not in .*cifar-100-binary.*KILOTUNE_DATA.*fetch"):
        load("cifar100")
