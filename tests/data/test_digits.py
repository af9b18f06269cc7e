import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kilotune.data.digits import N_PRETRAIN, N_TUNE, SIDE, read_digits, read_digits_shifted
from kilotune.errors import DataError

sklearn_datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn, of the extra 'demo'")


@pytest.fixture(scope="module")
def digits():
    return read_digits()


@pytest.fixture(scope="module")
def shifted():
    return read_digits_shifted()


@pytest.fixture(scope="module")
def originals():
    """Every image of scikit-learn's set at 32x32, as bytes -> labels it has there."""
    labels: dict[bytes, set[int]] = {}
    digits = sklearn_datasets.load_digits()
    for pixels, label in zip(digits.images, digits.target, strict=True):
        enlarged = Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).resize((SIDE, SIDE), Image.BICUBIC)
        labels.setdefault(np.asarray(enlarged).tobytes(), set()).add(int(label))
    return labels


def test_sizes(digits, shifted):
    for dataset in (digits, shifted):
        assert dataset.train.images.shape[1:] == (3, SIDE, SIDE)
        assert dataset.classes == tuple("0123456789")
    assert (len(digits.train), len(shifted.train)) == (N_PRETRAIN, N_TUNE)
    assert len(digits.test) == len(shifted.test) == 1797 - N_PRETRAIN - N_TUNE


def test_every_digit_is_a_real_one_with_its_label(digits, originals):
    for split in digits.splits.values():
        assert all(
            int(label) in originals[image[0].numpy().tobytes()]
            for image, label in zip(split.images, split.labels, strict=True)
        )
        assert torch.equal(split.images, split.images[:, :1].expand(-1, 3, -1, -1))


def test_both_domains_have_the_same_test_labels(digits, shifted):
    assert torch.equal(digits.test.labels, shifted.test.labels)


def test_no_image_is_in_two_splits(digits, shifted):
    """The labels of three disjoint splits together are those of the whole set, image by image."""
    together = torch.cat([digits.train.labels, shifted.train.labels, digits.test.labels])
    assert torch.equal(together.bincount(), torch.from_numpy(np.bincount(sklearn_datasets.load_digits().target)))
    seen = {image.numpy().tobytes() for image in digits.train.images}
    assert not seen & {image.numpy().tobytes() for image in digits.test.images}


def test_the_shift_is_the_difference_to_a_patch_of_a_photograph(digits, shifted):
    """Some window of a photograph, minus the digit, is the blended image in every pixel and channel."""
    windows = [
        np.lib.stride_tricks.sliding_window_view(photo, (SIDE, SIDE, 3))[:, :, 0]
        for photo in sklearn_datasets.load_sample_images().images
    ]
    blended = shifted.test.images[0].numpy().astype(int)
    ink = digits.test.images[0].numpy().astype(int)
    bare = ink[0] == 0
    corner = np.argwhere(bare)[0]
    found = [
        photo[top, left].astype(int).transpose(2, 0, 1)
        for photo in windows
        for top, left in np.argwhere((photo[:, :, corner[0], corner[1]] == blended[:, corner[0], corner[1]]).all(-1))
    ]
    assert any(np.array_equal(np.abs(patch - ink), blended) for patch in found)


def test_a_second_reading_is_the_same(shifted):
    again = read_digits_shifted()
    assert torch.equal(again.train.images, shifted.train.images)
    assert torch.equal(again.test.images, shifted.test.images)


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"kilotune\[demo\]"):
        read_digits()
