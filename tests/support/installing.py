"""Virtual environments, quickly: everything goes through uv, with its cache inside the clone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from .paths import TEST
from .process import clean_environment, run
from .pythons import Python


def create(folder: Path, python: Python) -> Path:
    """An empty virtual environment; returns its interpreter."""
    _uv(["venv", "--python", python.executable, folder])
    return folder / "bin" / "python"


def install(interpreter: Path, packages: Sequence[object], *, compile: bool = True) -> None:
    """Install packages from binary wheels, with bytecode as pip would leave it."""
    words = ["pip", "install", "--only-binary", ":all:", "--python", interpreter, *packages]
    _uv([*words, "--compile-bytecode"] if compile else words)


def uninstall(interpreter: Path, packages: Sequence[str]) -> None:
    """Remove packages."""
    _uv(["pip", "uninstall", "--python", interpreter, *packages])


def install_editable(interpreter: Path, project: Path) -> None:
    """Install a project as it lies there, built by the setuptools of the environment."""
    _uv(["pip", "install", "--python", interpreter, "--no-build-isolation", "-e", project])


def _uv(words: Sequence[object]) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = beside if beside.exists() else shutil.which("uv")
    if uv is None:
        raise RuntimeError("uv is missing: run the tests with `make test`")
    env = clean_environment(UV_CACHE_DIR=str(TEST / "uv-cache"), UV_NO_PROGRESS="1")
    env = {**pip_settings(), **env}
    run([uv, "--quiet", *words], env=env, timeout=900).check()


def pip_settings() -> dict[str, str]:
    """What pip is told by the environment, under the names that uv has for it."""
    names = {
        "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
        "PIP_EXTRA_INDEX_URL": "UV_INDEX",
        "PIP_CERT": "SSL_CERT_FILE",
    }
    return {ours: os.environ[theirs] for theirs, ours in names.items() if theirs in os.environ}
