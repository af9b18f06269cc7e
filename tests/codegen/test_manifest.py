import pytest

from kilotune.codegen.manifest import FILE, Manifest
from kilotune.errors import ExportError

from .conftest import MANIFEST


def test_is_read_as_it_was_written(tmp_path):
    MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST


def test_a_folder_without_one_is_no_project(tmp_path):
    with pytest.raises(
        ExportError, match=r"is not an exported project, kilotune.json cannot be read .*with `kilotune export`"
    ):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"model": 3}'])
def test_damage_is_said(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ExportError, match=r"kilotune\.json is damaged: .*; export the project again"):
        Manifest.read(tmp_path)
