"""What this clone builds: the wheel with plug-ins for both MPI wheels, fscount and slowfs."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import mpis
from .paths import ROOT, TARGET, TEST, digest, files_digest, made_once
from .process import clean_environment, run

sys.path.insert(0, str(ROOT / "build_support"))
from plugins import build_mpi


def _sources() -> list[Path]:
    names = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "setup.py", "LICENSE", "README.md")
    files = [ROOT / name for name in names if (ROOT / name).exists()]
    for folder, patterns in (
        ("src", ("*.rs", "*.toml", "*.py", "*.c", "*.h")),
        ("pyshim", ("*.py", "*.pyi", "py.typed")),
        ("build_support", ("*.py",)),
    ):
        for pattern in patterns:
            files += (ROOT / folder).rglob(pattern)
    return files


@functools.cache
def wheel() -> Path:
    """The wheel of this clone, as ``pip install .`` would make it."""
    compilers = [str(mpis.find(name).mpicc) for name in mpis.WHEELS]

    def make(folder: Path) -> None:
        # setuptools would put modules that no longer exist into the wheel.
        shutil.rmtree(ROOT / "build", ignore_errors=True)
        env = clean_environment(PYBUNDLE_MPICC=":".join(compilers))
        words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        run([*words, "--quiet", "--wheel-dir", folder, ROOT], env=env, timeout=1500).check()

    key = files_digest(_sources()) + ":".join(compilers)
    folder = made_once(TEST / "wheel", key, make)
    (found,) = folder.glob("pybundle-*.whl")
    return found


@functools.cache
def with_plugin(mpi: mpis.Mpi) -> mpis.Mpi:
    """The same MPI, with a plug-in of its own in the user's folder, as ``pybundle mpi add`` does.

    For the MPIs of the machine: the wheel has plug-ins for the others.
    """
    found = build_mpi.probe(str(mpi.mpicc))

    def make(folder: Path) -> None:
        library = build_mpi.build(found, ROOT, TARGET / "mpi" / f"{found.flavour}-{found.key}")
        build_mpi.install(found, library, folder / "pybundle" / "mpi")

    sources = files_digest((ROOT / "src/mpi").rglob("*.*"))
    folder = made_once(TEST / "plugins" / mpi.name, digest([sources, found.key]), make)
    return dataclasses.replace(mpi, variables={**mpi.variables, "XDG_DATA_HOME": str(folder)})


@functools.cache
def fscount() -> Path:
    """The counter of file operations."""
    return _tool("fscount")


@functools.cache
def slowfs() -> Path:
    """What shows folders as a slow file system does."""
    return _tool("slowfs")


def _tool(name: str) -> Path:
    # Cargo knows whether it must be built again.
    env = dict(os.environ, CARGO_TARGET_DIR=str(TARGET))
    words = ["cargo", "build", "--release", "--quiet", "-p", name]
    subprocess.run(words, cwd=ROOT, env=env, check=True, timeout=900)
    return TARGET / "release" / name
