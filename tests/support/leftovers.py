"""What MPI libraries leave in /dev/shm when their ranks are killed, as tests do on purpose."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY = Path("/dev/shm")
NAMES = ("mpich_shm_*", "sm_segment.*", "vader_segment.*", "osc_sm.*")


def segments() -> set[Path]:
    """The segments of MPI libraries that belong to this user."""
    found = (path for name in NAMES for path in MEMORY.glob(name))
    return {path for path in found if _owned(path)}


def remove(paths: set[Path]) -> None:
    """Remove those segments that no process has mapped: another job may have come meanwhile."""
    if not paths:
        return
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(errors="replace")
        except OSError:
            continue
        used |= {path for path in paths if str(path) in text}
    for path in paths - used:
        path.unlink(missing_ok=True)


def _owned(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False
