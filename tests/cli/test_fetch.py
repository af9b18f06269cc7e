import hashlib
import http.server
import json
import threading
from functools import partial
from pathlib import Path

import pytest

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def registered(tmp_path, monkeypatch) -> Path:
    """A data folder whose registry names a file on a server in this process."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "weights.bin").write_bytes(CONTENT)
    handler = partial(_Quiet, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    root = tmp_path / "data"
    root.mkdir()
    url = f"http://127.0.0.1:{server.server_port}/weights.bin"
    entry = {"url": url, "sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": len(CONTENT)}
    (root / "registry.json").write_text(json.dumps({"weights": entry}))
    monkeypatch.setenv("KILOTUNE_DATA", str(root))
    yield root
    server.shutdown()
    server.server_close()
    thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *about: object) -> None:
        """Nothing on stderr."""


def test_a_file_arrives_in_the_data_folder(kilotune, registered):
    called = kilotune("fetch", "weights", "--json")
    assert called.json == {"name": "weights", "path": str(registered / "weights.bin")}
    assert (registered / "weights.bin").read_bytes() == CONTENT
    assert kilotune("fetch", "weights").stdout == f"weights is in {registered / 'weights.bin'}\n"


def test_another_folder_can_be_given(kilotune, registered, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "registry.json").write_bytes((registered / "registry.json").read_bytes())
    assert kilotune("fetch", "weights", "--to", str(other)).code == 0
    assert (other / "weights.bin").read_bytes() == CONTENT
