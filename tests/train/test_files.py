import errno
import os

import pytest

from kilotune.errors import TrainingError
from kilotune.train.files import write_atomic


def test_replaces(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_full_disk_keeps_the_earlier_file(tmp_path, monkeypatch, function):
    path = tmp_path / "a"
    write_atomic(path, b"one")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(TrainingError, match=r"No space left.*earlier a is intact"):
        write_atomic(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_missing_folder(tmp_path):
    with pytest.raises(TrainingError, match="there is no earlier one"):
        write_atomic(tmp_path / "missing" / "a", b"one")
