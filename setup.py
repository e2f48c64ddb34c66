"""The parts of the build that pyproject.toml can't say: the version, and the MPI plug-ins."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_support"))

import plugins  # noqa: E402


class BuildExt(build_ext):
    """Builds the MPI plug-ins before setuptools-rust builds the extension and the command."""

    def run(self) -> None:
        super().run()
        package = Path(self.get_ext_fullpath("pybundle._native")).parent
        self._plugins = plugins.build_plugins(package)
        if not self.inplace:
            # An editable installation finds the sources in the clone.
            plugins.copy_source(package / "_mpi_src")


def version() -> str:
    """The workspace's version: Cargo.toml is the one place that states it."""
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'(?ms)^\[workspace\.package\].*?^version = "([^"]+)"', text).group(1)


setup(version=version(), cmdclass={"build_ext": BuildExt})
