"""Put the MPI plug-ins, and the source to build more of them, into the package."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _load(name: str):
    """A module of the package, without importing the package (its extension isn't built yet)."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "pyshim/pybundle" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


build_mpi = _load("_build_mpi")
# Before anything is compiled.
_load("__init__")._check_python()


def build_plugins(folder: Path) -> list[Path]:
    """Build a plug-in for each ``mpicc`` into ``folder``; returns the files.

    What was named in ``PYBUNDLE_MPICC`` must succeed; what was only found may fail with a warning.
    """
    for path, _ in build_mpi.plugins(folder):
        # Left by an earlier build in the same folder, perhaps for another MPI.
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
    compilers, named = build_mpi.named_compilers(os.environ)
    if not compilers:
        print(
            "pybundle: no mpicc, so no MPI plug-in (add one later: pybundle mpi add MPICC)",
            file=sys.stderr,
        )
        return []
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()
    built: dict[str, Path] = {}
    for mpicc in compilers:
        try:
            mpi = build_mpi.probe(mpicc)
            if mpi.key not in built:
                library = build_mpi.build(mpi, ROOT, target / "mpi" / f"{mpi.flavour}-{mpi.key}")
                built[mpi.key] = build_mpi.install(mpi, library, folder)
        except build_mpi.BuildError as error:
            if named:
                raise SystemExit(f"error: {error}") from None
            print(f"pybundle: warning: no MPI plug-in is built: {error}", file=sys.stderr)
    return list(built.values())


def copy_source(folder: Path) -> list[Path]:
    """Copy what ``pybundle mpi add`` compiles: the workspace, reduced to the plug-in's crate."""
    shutil.rmtree(folder, ignore_errors=True)
    crate = folder / "src/mpi"
    shutil.copytree(
        ROOT / "src/mpi",
        crate,
        ignore=shutil.ignore_patterns("target", "tests", "benches"),
    )
    workspace = (ROOT / "Cargo.toml").read_text()
    workspace = re.sub(r"(?m)^members = \[[^\]]*\]", 'members = ["src/mpi"]', workspace)
    workspace = re.sub(r"(?m)^(#.*\n)?default-members = \[[^\]]*\]\n", "", workspace)
    (folder / "Cargo.toml").write_text(workspace)
    # Cargo drops what the one crate doesn't need and keeps the versions of the rest.
    shutil.copyfile(ROOT / "Cargo.lock", folder / "Cargo.lock")
    return sorted(path for path in folder.rglob("*") if path.is_file())
