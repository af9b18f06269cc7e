import hashlib
import io
import json
import os
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kilotune.data import cifar
from kilotune.data.fetch import REGISTRY, fetch, registry
from kilotune.errors import DataError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.content``; answers ranges if ``server.ranges``; hangs up after ``server.cuts.pop()`` bytes."""

    def do_GET(self):
        self.server.requests.append(self.headers.get("Range"))
        if self.path != "/set.bin":
            self.send_error(404)
            return
        content, start = self.server.content, 0
        if self.server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        n_sent = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start : start + n_sent])

    def log_message(self, *arguments):
        """Nothing on stderr."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.ranges, server.cuts, server.requests = CONTENT, True, [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def register(root, server, **changes):
    url = f"http://127.0.0.1:{server.server_address[1]}/set.bin"
    entry = {"url": url, "sha256": SHA256, "bytes": len(CONTENT)} | changes
    (root / "registry.json").write_text(json.dumps({"toy": entry}))


def left_over(root):
    return sorted(path.name for path in root.iterdir() if path.name != "registry.json")


def test_download_with_progress(tmp_path, server):
    register(tmp_path, server)
    seen = []
    path = fetch("toy", tmp_path, lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "set.bin"
    assert path.read_bytes() == CONTENT
    assert left_over(tmp_path) == ["set.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_what_is_there_is_not_downloaded_again(tmp_path, server):
    register(tmp_path, server)
    fetch("toy", tmp_path)
    fetch("toy", str(tmp_path))
    assert server.requests == [None]


def test_interrupted_transfer_is_resumed_at_the_byte(tmp_path, server):
    register(tmp_path, server)
    server.cuts = [300_001, 5, 400_000]
    assert fetch("toy", tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300001-", "bytes=300006-", "bytes=700006-"]


def test_next_call_continues_a_download_that_broke_off(tmp_path, server):
    register(tmp_path, server)
    server.cuts = [300_000, 0]
    with pytest.raises(DataError, match=r"broke off at 300,000 B .* of 1,048,576 B .*call again to continue"):
        fetch("toy", tmp_path)
    assert (tmp_path / "set.bin.partial").stat().st_size == 300_000
    assert fetch("toy", tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=300000-"]
    assert left_over(tmp_path) == ["set.bin"]


def test_server_without_ranges_starts_over(tmp_path, server):
    register(tmp_path, server)
    server.ranges, server.cuts = False, [300_000]
    assert fetch("toy", tmp_path).read_bytes() == CONTENT


def test_server_without_ranges_that_never_gets_through_is_given_up(tmp_path, server):
    register(tmp_path, server)
    server.ranges, server.cuts = False, [300_000] * 10
    with pytest.raises(DataError, match="broke off"):
        fetch("toy", tmp_path)
    assert len(server.requests) == 2


def test_complete_partial_file_is_only_verified(tmp_path, server):
    register(tmp_path, server)
    (tmp_path / "set.bin.partial").write_bytes(CONTENT)
    assert fetch("toy", tmp_path).read_bytes() == CONTENT
    assert server.requests == []


def test_wrong_hash_shows_both_and_removes_the_file(tmp_path, server):
    register(tmp_path, server)
    server.content = CONTENT[:-1] + b"\0"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataError, match=f"{found} but {SHA256} was expected"):
        fetch("toy", tmp_path)
    assert left_over(tmp_path) == []


def test_stale_partial_file_does_not_survive(tmp_path, server):
    register(tmp_path, server)
    (tmp_path / "set.bin.partial").write_bytes(b"of another version")
    with pytest.raises(DataError, match="the download was removed"):
        fetch("toy", tmp_path)
    assert fetch("toy", tmp_path).read_bytes() == CONTENT


def test_longer_file_than_registered(tmp_path, server):
    register(tmp_path, server, bytes=1000)
    with pytest.raises(DataError, match="sends more than the 1,000 B"):
        fetch("toy", tmp_path)
    assert left_over(tmp_path) == []


def test_existing_file_of_another_hash_is_left_alone(tmp_path, server):
    register(tmp_path, server)
    (tmp_path / "set.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="move it away"):
        fetch("toy", tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == b"mine"


def test_full_disk(tmp_path, server):
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full, a device that is always full, is not there")
    register(tmp_path, server)
    (tmp_path / "set.bin.partial").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"disk full: .* needs 1,048,576 B .* free; make room"):
        fetch("toy", tmp_path)


def test_folder_that_cannot_be_made(tmp_path, server):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"cannot write https://.*choose a folder"):
        fetch("cifar10", tmp_path / "file" / "below")


def test_missing_on_the_server(tmp_path, server):
    register(tmp_path, server, url=f"http://127.0.0.1:{server.server_address[1]}/gone.bin")
    with pytest.raises(DataError, match=r"gone\.bin answered 404"):
        fetch("toy", tmp_path)


def test_no_server(tmp_path, server):
    register(tmp_path, server, url="http://127.0.0.1:9/set.bin")
    with pytest.raises(DataError, match="cannot reach the server"):
        fetch("toy", tmp_path)


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"'imagenet'; known are cifar10, cifar100"):
        fetch("imagenet", tmp_path)


def archive_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def serve_archive(root, server, content):
    server.content = content
    register(root, server, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), unpacks_to="toy-set")


def test_archive_is_unpacked_and_removed(tmp_path, server):
    serve_archive(tmp_path, server, archive_of({"toy-set/a.bin": b"abc", "toy-set/b.bin": b"d"}))
    folder = fetch("toy", tmp_path)
    assert folder == tmp_path / "toy-set"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.bin": b"abc", "b.bin": b"d"}
    assert left_over(tmp_path) == ["toy-set"]
    fetch("toy", tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive at all", "cannot unpack"),
        (archive_of({"toy-set/../../evil": b"abc"}), "cannot unpack"),
        (archive_of({"other/a.bin": b"abc"}), "has no folder toy-set"),
    ],
)
def test_wrong_archive_leaves_no_folder(tmp_path, server, content, message):
    root = tmp_path / "data"
    root.mkdir()
    serve_archive(root, server, content)
    with pytest.raises(DataError, match=message):
        fetch("toy", root)
    assert not (root / "toy-set").exists()
    assert os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize(
    "change",
    [
        {"url": "file:///etc/hostname"},
        {"url": "http://host/"},
        {"sha256": "abc"},
        {"bytes": 0},
        {"bytes": "many"},
        {"unpacks_to": "../elsewhere"},
        {"md5": "abc"},
    ],
)
def test_registry_file_is_checked(tmp_path, change):
    entry = {"url": "http://host/a.bin", "sha256": SHA256, "bytes": 5} | change
    (tmp_path / "registry.json").write_text(json.dumps({"toy": entry}))
    with pytest.raises(DataError, match=r"registry\.json is not a registry"):
        registry(tmp_path)


def test_registry_file_adds_to_the_built_in_one(tmp_path, server):
    register(tmp_path, server)
    assert set(registry(tmp_path)) == {*REGISTRY, "toy"}


def test_registered_archives_unpack_to_where_the_readers_look():
    assert REGISTRY["cifar10"].unpacks_to == cifar.CIFAR10.folder
    assert REGISTRY["cifar100"].unpacks_to == cifar.CIFAR100.folder
