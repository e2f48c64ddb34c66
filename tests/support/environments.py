"""Environments to pack, by name, and an empty one that holds pybundle alone.

``small``  packages of a few lines from tests/data/small: every kind of file, made in a second
``varied`` small and what tests/data/varied has for the comparison with plain imports
``core``   numpy h5py mpi4py pyyaml requests, about 100 MB, for any Python
``w2``     core and scipy pandas matplotlib scikit-learn, about 500 MB, for the main Python
``w3``     w2 and numba xarray sympy networkx, about 800 MB: for measuring
``tested`` numpy networkx jinja2 and what runs their own tests, about 130 MB
``packages`` more than two hundred distributions, about 1.2 GB, from tests/data/packages
``runner`` nothing
All but ``small`` hold pybundle too, so that their own interpreter can run the bundle.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from . import built, installing, small, varied
from .paths import ROOT, TEST, digest, files_digest, locked, made_once
from .pythons import Python

CORE = ("numpy", "h5py", "mpi4py", "pyyaml", "requests")
W2_PACKAGES = (*CORE, "scipy", "pandas", "matplotlib", "scikit-learn")


def listed(name: str) -> tuple[str, ...]:
    """The packages that a list in tests/data/packages names."""
    lines = (ROOT / "tests/data/packages" / f"{name}.txt").read_text().splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


PACKAGES: dict[str, tuple[str, ...]] = {
    "runner": (),
    "core": CORE,
    "w2": W2_PACKAGES,
    "w3": (*W2_PACKAGES, "numba", "xarray", "sympy", "networkx"),
    "tested": ("numpy", "networkx", "jinja2", "pytest", "hypothesis"),
    "packages": (*listed("most-downloaded"), *listed("scientific")),
}
# The imports of the workloads.
W2 = "import numpy, scipy.stats, pandas, matplotlib.pyplot"
W3 = f"{W2}, sklearn.ensemble, numba, xarray, sympy, networkx"
WORKLOADS = {"W1": "import numpy", "W2": W2, "W3": W3, "W4": "import sympy, networkx"}


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    name: str
    base: Python
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def pybundle(self) -> Path:
        """The `pybundle` command in it."""
        return self.folder / "bin" / "pybundle"

    @property
    def packages(self) -> Path:
        """Its site-packages folder."""
        return self.folder / "lib" / f"python{self.base.minor}" / "site-packages"

    def copy(self, folder: Path) -> Environment:
        """A copy that a test may change."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Environment(self.name, self.base, folder)


def environment(name: str, python: Python) -> Environment:
    """The environment of this name for this Python, made if need be."""
    folder = TEST / "env" / f"{name}-{python.minor}"
    if name == "varied":
        key = files_digest(
            path
            for source in (small.SOURCE, varied.SOURCE)
            for path in source.rglob("*")
            if path.is_file()
        )
        key = digest([key, str(python.executable), small.VERSION, varied.VERSION])
        made_once(folder, key, lambda made: varied.make(made, python))
        install_pybundle(folder)
        return Environment(name, python, folder)
    if name == "small":
        key = files_digest(path for path in small.SOURCE.rglob("*") if path.is_file())
        key = digest([key, str(python.executable), small.VERSION])
        made_once(folder, key, lambda made: small.make(made, python))
        return Environment(name, python, folder)
    packages = PACKAGES[name]

    def make(made: Path) -> None:
        interpreter = installing.create(made, python)
        if packages:
            installing.install(interpreter, packages)

    made_once(folder, digest([*packages, str(python.executable)]), make)
    made = Environment(name, python, folder)
    if name == "packages":
        # The wheel's tests refuse to start without this folder; those that compare images with what
        # is in it then fail both ways.
        (made.packages / "matplotlib/tests/baseline_images").mkdir(exist_ok=True)
    install_pybundle(folder)
    return made


def install_pybundle(folder: Path) -> None:
    """Bring the pybundle of an environment up to date; a quarter of a second."""
    wheel = built.wheel()
    key = f"{wheel.stat().st_mtime_ns}"
    mark = TEST / "env" / f".{folder.name}.pybundle"
    with locked(f"pybundle-{folder.name}"):
        if mark.exists() and mark.read_text() == key and (folder / "bin/pybundle").exists():
            return
        words = ["--reinstall-package", "pybundle", wheel]
        installing.install(folder / "bin" / "python", words)
        mark.write_text(key)
