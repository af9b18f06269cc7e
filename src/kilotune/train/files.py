"""Files that are either the old one or the new one, never half of it."""

import os
from pathlib import Path

from kilotune.errors import TrainingError


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, then rename. Raises TrainingError if that fails; ``path`` stays as it was."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        kept = f"the earlier {path.name} is intact" if path.exists() else "there is no earlier one"
        raise TrainingError(
            f"could not write {len(content):,} B to {path}: {error.strerror}; {kept}; "
            "free some space, or choose another folder"
        ) from error
