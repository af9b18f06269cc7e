import numpy as np
import pytest

from kilotune.codegen.session import FILE, check_labels, shuffled_order
from kilotune.errors import DataError


def test_file_has_numbers_order_and_samples(session, tmp_path):
    session.write(tmp_path)
    words = np.frombuffer((tmp_path / FILE).read_bytes(), "<u4")
    assert words[1:7].tolist() == [4 + 12 * 4, 40, 20, 80, 4, 40]
    assert words[7:87].tolist() == session.order.tolist()
    samples = words[87:].reshape(60, 13)
    assert samples[:, 0].tolist() == [*session.train_labels, *session.test_labels]
    assert np.array_equal(samples[:, 1:].copy().view("<f4"), np.concatenate([session.train, session.test]))


def test_every_epoch_has_every_sample_in_its_own_order():
    order = shuffled_order(10, 3, seed=1).reshape(3, 10)
    assert np.array_equal(np.sort(order), np.tile(np.arange(10), (3, 1)))
    assert len({tuple(epoch) for epoch in order.tolist()}) == 3
    assert np.array_equal(order.ravel(), shuffled_order(10, 3, seed=1))


def test_labels_are_classes_of_the_project():
    check_labels(np.array([0, 2]), 3, "test")
    with pytest.raises(DataError, match="train labels run from 0 to 9, the project was exported for 3 classes, 0 to 2"):
        check_labels(np.arange(10), 3, "train")
