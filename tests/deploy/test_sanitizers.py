"""A whole session of a project, compiled so that every access outside of its memory and all undefined behaviour ends it."""

import shutil
import subprocess

import numpy as np
import pytest

from kilotune.codegen.firmware import BOARD_FILES
from kilotune.codegen.host import FLAGS, SANITIZED
from kilotune.codegen.project import write_sources
from kilotune.codegen.session import Session, shuffled_order
from kilotune.codegen.tools import run_tool
from tests.deploy.test_verify import make_case


def test_no_access_outside_and_nothing_undefined(objects, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    case = make_case("user", momentum=0.9)
    write_sources(case.program, tmp_path / "project", "a network", "a plan", 0.01)
    sources = tmp_path / "project" / "src"
    made = objects(sorted(sources.glob("*.c")), sources, "gcc", *FLAGS, *SANITIZED)
    program = [BOARD_FILES / name for name in ("kt_session.c", "kt_external.c", "host.c")]
    include = [f"-I{sources}", f"-I{BOARD_FILES}"]
    run_tool(["gcc", *FLAGS, *SANITIZED, *include, *made, *program, "-o", tmp_path / "session"], "linking")
    draws = np.random.default_rng(0)
    images, labels = draws.standard_normal((4, 3, 16, 16)).astype(np.float32), np.arange(4)
    Session(images, labels, images, labels, shuffled_order(4, 2, 0), 2, 0).write(tmp_path)
    done = subprocess.run([tmp_path / "session"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss ") == 8
