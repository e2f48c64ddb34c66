"""Run cargo on the plug-in's crate: ``with_mpi.py mpich|openmpi COMMAND…``.

The crate needs an MPI, libclang and a target folder of its own for each MPI; this sets them to what
the tests use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import mpis
from support.built import build_mpi
from support.paths import TARGET


def main(arguments: list[str]) -> None:
    """Become the command."""
    found = mpis.find(arguments[0])
    mpi = build_mpi.probe(str(found.mpicc))
    env = build_mpi.environment(mpi, TARGET / "mpi" / f"{mpi.flavour}-{mpi.key}")
    env["LD_LIBRARY_PATH"] = str(found.library_dir)
    os.execvpe(arguments[1], arguments[1:], env)


if __name__ == "__main__":
    main(sys.argv[1:])
