"""The Pythons of this machine, each minor version once."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MINORS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")

_ASK = """
import os, sys
free_threaded = hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled()
print(sys.implementation.name, *sys.version_info[:2], free_threaded)
print(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter outside any virtual environment."""

    minor: str
    executable: Path

    @property
    def prefix(self) -> Path:
        """What a virtual environment is made from."""
        return self.executable.parent.parent

    @property
    def libraries(self) -> list[Path]:
        """The files of libpython, none where it is part of the executable alone."""
        names = (f"lib/libpython{self.minor}*.so*", f"lib/*/libpython{self.minor}*.so*")
        return [path for name in names for path in self.prefix.glob(name)]

    @property
    def places(self) -> list[Path]:
        """Folders and files that are this Python's alone."""
        if self.prefix != Path("/usr"):
            return [self.prefix]
        # The system's own: its prefix is everybody's.
        folders = (f"lib/python{self.minor}", f"local/lib/python{self.minor}", "lib/python3")
        return [self.executable, *self.libraries, *(self.prefix / folder for folder in folders)]


@functools.cache
def pythons() -> dict[str, Python]:
    """The CPythons found, by minor version.

    ``PYBUNDLE_TEST_PYTHONS`` (paths separated by ``:``) replaces the search of PATH, pyenv's
    folder and ``/usr/bin``.
    """
    found: dict[str, Python] = {}
    for path in _candidates():
        python = _ask(path)
        if python is not None and python.minor in MINORS:
            found.setdefault(python.minor, python)
    return dict(sorted(found.items(), key=lambda item: MINORS.index(item[0])))


def main_python() -> Python:
    """The one that large things are made for: what runs the tests, if it was found."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = pythons()
    if not found:
        raise RuntimeError("no CPython found: name some in PYBUNDLE_TEST_PYTHONS")
    return found.get(own) or list(found.values())[-1]


def _candidates() -> Iterator[Path]:
    named = os.environ.get("PYBUNDLE_TEST_PYTHONS")
    if named is not None:
        yield from (Path(path) for path in named.split(":") if path)
        return
    yield Path(sys.executable)
    # A shim is a script that starts an interpreter, or refuses to.
    folders = [folder for folder in os.environ.get("PATH", "").split(":") if "shims" not in folder]
    for minor in MINORS:
        path = shutil.which(f"python{minor}", path=":".join(folders))
        if path is not None:
            yield Path(path)
    yield from sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    for minor in MINORS:
        yield Path(f"/usr/bin/python{minor}")


def _ask(path: Path) -> Python | None:
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    facts, executable = answer.splitlines()
    name, major, minor, free_threaded = facts.split()
    if name != "cpython" or free_threaded == "True":
        return None
    return Python(f"{major}.{minor}", Path(executable))
