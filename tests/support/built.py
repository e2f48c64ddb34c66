"""What this clone builds: the wheel with plug-ins for both MPI wheels, and fscount."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import mpis
from .paths import ROOT, TARGET, TEST, files_digest, made_once
from .process import clean_environment, run


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
def fscount() -> Path:
    """The counter of file operations; cargo knows whether it must be built again."""
    env = dict(os.environ, CARGO_TARGET_DIR=str(TARGET))
    words = ["cargo", "build", "--release", "--quiet", "-p", "fscount"]
    subprocess.run(words, cwd=ROOT, env=env, check=True, timeout=900)
    return TARGET / "release" / "fscount"
