"""Where things lie, and how they are made once although several test processes may want them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
TEST = ROOT / ".test"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of this name among all test processes of the clone."""
    folder = TEST / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """``folder``, made by ``make(folder)`` unless that was done before with the same key.

    A folder that was left half made, or made with another key, is removed first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = folder.with_name(f".{folder.name}.key")
    with locked(folder.relative_to(TEST).as_posix().replace("/", "-")):
        if not (folder.is_dir() and mark.is_file() and mark.read_text() == key):
            mark.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            mark.write_text(key)
    return folder


def digest(parts: Iterable[str]) -> str:
    """A short name for a list of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def files_digest(files: Iterable[Path]) -> str:
    """A short name for the contents of files."""
    result = hashlib.sha256()
    for path in sorted(files):
        data = path.read_bytes()
        result.update(f"{path}\0{len(data)}\0".encode() + data)
    return result.hexdigest()[:16]
