"""Objects are made again when anything that goes into them has changed, and only then."""

import shutil

import pytest

from kilotune.errors import EmulatorError
from tests.objects import Objects


def test_compiled_once_per_content(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    objects, source, header = Objects(tmp_path / "kept"), tmp_path / "one.c", tmp_path / "one.h"
    source.write_text('#include "one.h"\nint one(void) { return ONE; }\n')
    header.write_text("#define ONE 1\n")
    [first] = objects([source], tmp_path, "gcc", "-O1")
    made = first.stat().st_ino
    (tmp_path / "copy").mkdir()
    for path in (source, header):
        shutil.copy(path, tmp_path / "copy")
    assert objects([tmp_path / "copy" / "one.c"], tmp_path / "copy", "gcc", "-O1") == [first]
    assert first.stat().st_ino == made
    header.write_text("#define ONE 2\n")
    assert len({first, *objects([source], tmp_path, "gcc", "-O1"), *objects([source], tmp_path, "gcc", "-O2")}) == 3
    header.write_text("#error none\n")
    with pytest.raises(EmulatorError, match="compiling failed"):
        objects([source], tmp_path, "gcc", "-O1")
