"""Build an MPI plug-in with cargo.

Used in two places: by the package build (one plug-in for each ``mpicc``, into the package) and by
``pybundle mpi add`` (one more, into a folder of the user's that reinstalling doesn't empty).
A plug-in is ``_mpi_<flavour>.so``; a second MPI of the same flavour is ``_mpi_<flavour>_2.so``.
The JSON file beside it says what it was built with; nothing reads it while a program starts.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PREFIX = "_mpi_"
# Folders that the dynamic linker searches anyway: a RUNPATH naming them would only be noise.
SYSTEM_FOLDERS = re.compile(r"^/(usr/)?lib(64|/[a-z0-9_]+-linux-gnu[a-z0-9]*)?/?$")


class BuildError(Exception):
    """A plug-in could not be built; the text says why and what to do."""


@dataclass(frozen=True)
class Mpi:
    """An MPI installation, as its compiler wrapper describes it."""

    mpicc: str
    flavour: str
    version: str
    show: str

    @property
    def library_dirs(self) -> list[str]:
        """The ``-L`` folders of the wrapper, without those that are searched anyway."""
        try:
            words = shlex.split(self.show)
        except ValueError:
            return []
        found = [word[2:] for word in words if word.startswith("-L") and len(word) > 2]
        return [path for path in dict.fromkeys(found) if not SYSTEM_FOLDERS.match(path)]

    @property
    def key(self) -> str:
        """Eight digits that differ between MPI installations; names the cargo target folder."""
        text = "\0".join((self.flavour, self.version, self.show))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def record(self) -> dict[str, object]:
        """What the JSON file beside the plug-in says."""
        return {
            "flavour": self.flavour,
            "version": self.version,
            "mpicc": self.mpicc,
            "library_dirs": self.library_dirs,
        }


def named_compilers(environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """The compiler wrappers to build for, and whether the user named them.

    ``PYBUNDLE_MPICC`` is a list separated by ``:``; without it, ``mpicc`` on PATH if there is one.
    """
    value = environ.get("PYBUNDLE_MPICC")
    if value is not None:
        return [name for name in value.split(":") if name], True
    found = shutil.which("mpicc", path=environ.get("PATH"))
    return ([found] if found else []), False


def probe(mpicc: str) -> Mpi:
    """Ask a compiler wrapper which MPI it stands for.

    Raises :class:`BuildError` if it can't be run or its ``mpi.h`` is of no known flavour.
    """
    path = shutil.which(mpicc)
    if path is None:
        raise BuildError(f"no such compiler wrapper: `{mpicc}`")
    path = os.path.abspath(path)
    try:
        macros = subprocess.run(
            [path, "-E", "-dM", "-x", "c", "-"],
            input="#include <mpi.h>\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        show = subprocess.run(
            [path, "-show"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        ).stdout.strip()
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"`{path}` can't compile `#include <mpi.h>`: {error.stderr.strip()}"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"can't run `{path}`: {error}") from None
    defined = dict(re.findall(r"^#define (\w+) (.+)$", macros, re.MULTILINE))
    if "OPEN_MPI" in defined:
        parts = (defined.get(f"OMPI_{part}_VERSION", "0") for part in ("MAJOR", "MINOR", "RELEASE"))
        return Mpi(path, "openmpi", ".".join(parts), show)
    # Intel MPI, Cray MPICH and MVAPICH share MPICH's binary interface.
    for name in (
        "MPICH_VERSION",
        "I_MPI_VERSION",
        "MVAPICH_VERSION",
        "MVAPICH2_VERSION",
    ):
        if name in defined:
            return Mpi(path, "mpich", defined[name].strip('"'), show)
    raise BuildError(f"neither Open MPI nor a relative of MPICH: `{path}`")


def source_root() -> Path:
    """The folder with the plug-in's sources: the package's own copy, else the clone around it.

    Raises :class:`BuildError` if neither is there.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "_mpi_src", package.parents[1]):
        if (root / "src/mpi/Cargo.toml").is_file() and (root / "Cargo.toml").is_file():
            return root
    raise BuildError(f"the plug-in's sources are missing below `{package}`: install pybundle again")


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where ``pybundle mpi add`` puts plug-ins: ``$XDG_DATA_HOME/pybundle/mpi`` or the like."""
    data = environ.get("XDG_DATA_HOME", "")
    base = (
        Path(data)
        if os.path.isabs(data)
        else Path(environ.get("HOME") or Path.home()) / ".local/share"
    )
    return base / "pybundle" / "mpi"


def build(mpi: Mpi, root: Path, target: Path) -> Path:
    """Compile the plug-in for ``mpi`` from ``root`` below the cargo folder ``target``.

    One target folder serves one MPI only: the bindings crate doesn't notice another compiler.
    Returns the library. Raises :class:`BuildError`.
    """
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if cargo is None:
        raise BuildError(
            "cargo is not on PATH: building an MPI plug-in needs Rust (https://rustup.rs)"
        )
    command = [
        cargo,
        "rustc",
        "--release",
        "--lib",
        "--manifest-path",
        str(root / "src/mpi/Cargo.toml"),
    ]
    # The bindings crate passes on where the linker finds libmpi, but not where the program will.
    flags = [word for path in mpi.library_dirs for word in ("-C", f"link-arg=-Wl,-rpath,{path}")]
    command += ["--", "-C", "link-arg=-Wl,--enable-new-dtags", *flags]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment(mpi, target),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        raise BuildError(f"can't run `{cargo}`: {error}") from None
    if done.returncode != 0:
        if "Unable to find libclang" in done.stdout:
            raise BuildError(
                "no libclang, which generating MPI's bindings needs"
                "\nhint: `pip install libclang`, or set LIBCLANG_PATH to the folder of libclang.so"
            )
        raise BuildError(f"cargo failed for `{mpi.mpicc}`:\n{_tail(done.stdout)}")
    library = target / "release" / "libpybundle_mpi.so"
    if not library.is_file():
        raise BuildError(f"cargo made no library: `{library}`")
    return library


def install(mpi: Mpi, library: Path, folder: Path, taken: Sequence[str] = ()) -> Path:
    """Copy a built plug-in and its record into ``folder``; returns the new file.

    A plug-in of the same compiler wrapper is replaced; stems in ``taken`` are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(mpi, folder, taken)
    _replace(
        folder / f"{stem}.json",
        (json.dumps(mpi.record(), indent=1) + "\n").encode(),
        0o644,
    )
    plugin = folder / f"{stem}.so"
    _replace(plugin, library.read_bytes(), 0o755)
    return plugin


def plugins(folder: Path) -> list[tuple[Path, dict[str, object]]]:
    """The plug-ins in ``folder`` with their records (empty where unreadable), by name."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*.so")):
        try:
            record = json.loads(path.with_suffix(".json").read_text())
        except (OSError, ValueError):
            record = {}
        found.append((path, record if isinstance(record, dict) else {}))
    return found


def main(arguments: Sequence[str]) -> int:
    """``pybundle mpi``: returns the exit status (0 done, 1 failed, 2 usage)."""
    parser = argparse.ArgumentParser(
        prog="pybundle mpi", description="MPI plug-ins of this installation."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser(
        "add", help="build the plug-in for one more MPI (needs cargo and libclang)"
    )
    add.add_argument(
        "mpicc",
        metavar="MPICC",
        help="its compiler wrapper, such as /opt/mpi/bin/mpicc",
    )
    commands.add_parser("list", help="show the plug-ins and what they were built with")
    remove = commands.add_parser("remove", help="remove a plug-in that `add` built")
    remove.add_argument("plugin", metavar="NAME", help="its file name, as `list` shows it")
    options = parser.parse_args(arguments)
    try:
        if options.command == "add":
            return _add(options.mpicc)
        if options.command == "remove":
            return _remove(options.plugin)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _list()


def _add(mpicc: str) -> int:
    mpi = probe(mpicc)
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"building the plug-in for {mpi.flavour} {mpi.version}: `{mpi.mpicc}`",
        file=sys.stderr,
    )
    # Beside its destination: /tmp is mounted noexec on some clusters and cargo runs what it builds.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as target:
        plugin = install(mpi, build(mpi, source_root(), Path(target)), folder)
    print(plugin)
    return 0


def _remove(name: str) -> int:
    plugin = user_folder() / name
    if plugin.name != name or plugin not in [path for path, _ in plugins(user_folder())]:
        raise BuildError(f"no such plug-in in `{user_folder()}`: {name}")
    plugin.unlink()
    plugin.with_suffix(".json").unlink(missing_ok=True)
    return 0


def _list() -> int:
    for folder in (Path(__file__).resolve().parent, user_folder()):
        for path, record in plugins(folder):
            fields = (record.get(key, "unknown") for key in ("flavour", "version", "mpicc"))
            print(path, *fields, sep="\t")
    return 0


def environment(mpi: Mpi, target: Path) -> dict[str, str]:
    """The environment for cargo: this MPI and no other, and a libclang that finds its headers."""
    env = dict(os.environ, CARGO_TARGET_DIR=str(target), MPICC=mpi.mpicc)
    if "-l" in mpi.show:
        # These would win over MPICC. A wrapper that hides its libraries (Cray's `cc`) needs them.
        env.pop("MPI_PKG_CONFIG", None)
        env.pop("CRAY_MPICH_DIR", None)
    if "LIBCLANG_PATH" not in env:
        wheel = importlib.util.find_spec("clang")
        for parent in (wheel.submodule_search_locations or []) if wheel else []:
            if os.path.exists(os.path.join(parent, "native", "libclang.so")):
                env["LIBCLANG_PATH"] = os.path.join(parent, "native")
    if "BINDGEN_EXTRA_CLANG_ARGS" not in env:
        # The libclang wheel has no compiler headers of its own (stddef.h); gcc's serve.
        try:
            include = subprocess.run(
                [env.get("CC", "cc"), "-print-file-name=include"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            include = ""
        if os.path.isdir(include):
            env["BINDGEN_EXTRA_CLANG_ARGS"] = f'-isystem "{include}"'
    return env


def _free_stem(mpi: Mpi, folder: Path, taken: Sequence[str]) -> str:
    number = 1
    while True:
        stem = f"{PREFIX}{mpi.flavour}" + (f"_{number}" if number > 1 else "")
        record = folder / f"{stem}.json"
        if stem not in taken:
            if not record.exists() and not (folder / f"{stem}.so").exists():
                return stem
            try:
                if json.loads(record.read_text()).get("mpicc") == mpi.mpicc:
                    return stem
            except (OSError, ValueError, AttributeError):
                pass  # Not a record of ours: leave that plug-in alone.
        number += 1


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file under a private name, then rename: a running job keeps the one it mapped."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.chmod(mode)
    temporary.replace(path)


def _tail(text: str, lines: int = 40) -> str:
    kept = text.rstrip().splitlines()
    return "\n".join(kept[-lines:])
