"""Download registered data sets and checkpoints: resumed where it stopped, accepted only with the right SHA-256."""

import errno
import hashlib
import http.client
import os
import re
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from kilotune.errors import DataError
from kilotune.units import format_bytes

USER_REGISTRY = "registry.json"
_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30

Progress = Callable[[int, int], None]


class _InterruptedError(Exception):
    """The server cannot be reached, or the connection broke off."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file to download. ``unpacks_to``: the folder inside the tar archive that is wanted, or "" to keep the file."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://.+/[^/?#]+$")]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    nbytes: Annotated[int, msgspec.Meta(gt=0)] = msgspec.field(name="bytes")
    unpacks_to: Annotated[str, msgspec.Meta(pattern=r"^[\w-]*$")] = ""

    @property
    def file_name(self) -> str:
        """Name of the downloaded file."""
        return urllib.parse.unquote(self.url.rsplit("/", 1)[1]).replace("/", "_")


# Sizes and SHA-256 are those that TensorFlow Datasets pins for these addresses.
REGISTRY = {
    "cifar10": Source(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        nbytes=170_052_171,
        unpacks_to="cifar-10-batches-bin",
    ),
    "cifar100": Source(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        nbytes=168_513_733,
        unpacks_to="cifar-100-binary",
    ),
}


def registry(root: Path) -> dict[str, Source]:
    """REGISTRY and the entries of ``root/registry.json``: ``{name: {"url", "sha256", "bytes", "unpacks_to"?}}``.

    Raises DataError if that file is not of this form.
    """
    path = root / USER_REGISTRY
    if not path.exists():
        return REGISTRY
    try:
        return REGISTRY | msgspec.json.decode(path.read_bytes(), type=dict[str, Source])
    except (msgspec.MsgspecError, OSError) as error:
        raise DataError(f"{path} is not a registry of downloads: {error}") from error


def fetch(name: str, root: str | Path, progress: Progress | None = None) -> Path:
    """The registered file, or unpacked folder, ``name`` below ``root``; downloaded unless it is there.

    progress: called with (bytes done, bytes in all). An interrupted download is kept and continued by the next call.
    Raises DataError for an unknown name, a failing server, a full disk, or content of another SHA-256 (then removed).
    """
    root = Path(root)
    sources = registry(root)
    if name not in sources:
        raise DataError(
            f"nothing to download is called {name!r}; known are {', '.join(sources)}, more go into {USER_REGISTRY}"
        )
    source = sources[name]
    target = root / (source.unpacks_to or source.file_name)
    try:
        if not _is_there(target, source):
            root.mkdir(parents=True, exist_ok=True)
            _obtain(source, target, root / (source.file_name + ".partial"), progress or _silent)
    except OSError as error:
        raise _disk_error(error, source, root) from error
    return target


def _obtain(source: Source, target: Path, partial: Path, progress: Progress) -> None:
    """Download into ``partial``, continued after an interruption if the attempt brought something; then accept."""
    while (n_before := _size(partial)) < source.nbytes:
        try:
            _receive(source, partial, n_before, progress)
        except _InterruptedError as error:
            if _size(partial) <= n_before:
                raise DataError(
                    f"download of {source.url} broke off at {format_bytes(_size(partial))} of "
                    f"{format_bytes(source.nbytes)}: {error}; call again to continue"
                ) from error
    _check_hash(source, partial)
    if not source.unpacks_to:
        os.replace(partial, target)
        return
    _unpack(partial, target)
    partial.unlink()


def _receive(source: Source, partial: Path, n_before: int, progress: Progress) -> None:
    """Append what the server sends to ``partial``, which has ``n_before`` bytes."""
    with _open(source, n_before) as response:
        # A server that ignores the range answers 200 and starts over, and so do we.
        n_done = n_before if _resumes(response, n_before) else 0
        with partial.open("ab" if n_done else "wb") as file:
            for chunk in _chunks(response):
                n_done += len(chunk)
                _check_size(source, partial, n_done)
                file.write(chunk)
                progress(n_done, source.nbytes)
    if n_done < source.nbytes:
        raise _InterruptedError("the server closed the connection")


def _open(source: Source, n_before: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={n_before}-"} if n_before else {})
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{source.url} answered {error.code} {error.reason}; check the address") from error
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(f"cannot reach the server ({getattr(error, 'reason', error)})") from error


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(f"{type(error).__name__}: {error}") from error


def _resumes(response: http.client.HTTPResponse, n_before: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == http.client.PARTIAL_CONTENT and found is not None and int(found[1]) == n_before


def _check_size(source: Source, partial: Path, n_done: int) -> None:
    if n_done > source.nbytes:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{source.url} sends more than the {format_bytes(source.nbytes)} expected; it is another file now"
        )


def _check_hash(source: Source, path: Path) -> None:
    found = _sha256(path)
    if found != source.sha256:
        path.unlink()
        raise DataError(
            f"{source.url} has SHA-256 {found} but {source.sha256} was expected; the download was removed. "
            "Fetch again; if it stays so, the file there is another one now"
        )


def _is_there(target: Path, source: Source) -> bool:
    if source.unpacks_to or not target.exists():
        return target.exists()
    found = _sha256(target)
    if found != source.sha256:
        raise DataError(
            f"{target} exists with SHA-256 {found} but {source.sha256} was expected; move it away and fetch again"
        )
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        except tarfile.TarError as error:
            raise DataError(f"cannot unpack {archive}: {error}") from error
        inside = Path(folder) / target.name
        if not inside.is_dir():
            raise DataError(f"{archive} has no folder {target.name}; correct unpacks_to in {USER_REGISTRY}")
        os.replace(inside, target)


def _disk_error(error: OSError, source: Source, root: Path) -> DataError:
    if error.errno == errno.ENOSPC:
        free_bytes = shutil.disk_usage(root).free
        return DataError(
            f"disk full: {source.url} needs {format_bytes(source.nbytes)} (more when unpacked) and {root} has "
            f"{format_bytes(free_bytes)} free; make room and call again to continue"
        )
    return DataError(f"cannot write {source.url} below {root}: {error}; choose a folder that can be written")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _silent(n_done: int, n_bytes: int) -> None:
    """No progress is shown."""
