import logging

import pytest

from kilotune.errors import RunError, TrainingError
from kilotune.train.folder import RunFolder


def test_never_over_another_run(tmp_path):
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.create()
    folder.record.write_text("{}")
    with pytest.raises(RunError, match="already holds a run"):
        folder.create()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(TrainingError, match="cannot make the run folder"):
        RunFolder(tmp_path / "run").create()


def test_log_is_appended_and_closed(tmp_path):
    folder = RunFolder(tmp_path)
    handlers = list(logging.getLogger("kilotune").handlers)
    for text in ("one", "two"):
        with folder.log():
            logging.getLogger("kilotune.train.loop").info(text)
    logging.getLogger("kilotune.train.loop").info("three")
    assert [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["one", "two"]
    assert logging.getLogger("kilotune").handlers == handlers
