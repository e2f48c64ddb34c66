"""Bad input: one clear message, a non-zero status, nothing left behind, never a hang."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bundles
from support.bundles import CLEAN, Runner
from support.environments import Environment
from support.mpis import Mpi
from support.paths import ROOT
from support.process import clean_environment, run

PROGRAM = "import shapes; print('ran')"


@pytest.fixture
def small_runner(small: Environment, tmp_path: Path) -> Runner:
    (tmp_path / "node").mkdir()
    return bundles.runner(small, tmp_path / "node")


def refused(runner: Runner, mpi: Mpi | None, says: str, **options: object) -> str:
    """The message of a run that is refused; the same words, once, by one rank of three."""
    args = ["-c", PROGRAM]
    if mpi is None:
        result = runner.run(*args, **options)
    else:
        result = runner.launch(mpi, 3, args, **options)
    assert result.status != 0, result
    assert "ran" not in result.stdout, result
    assert re.search(says, result.stderr), f"expected {says!r} in {result}"
    assert result.stderr.count("error: ") == 1, result
    assert "panicked" not in result.stderr, result
    assert runner.left() in CLEAN, runner.left()
    return result.stderr


def damaged(runner: Runner, folder: Path, change) -> Runner:
    """The runner with a changed copy of its bundle."""
    data = bytearray(runner.bundle.read_bytes())
    data = change(data)
    path = folder / "damaged.pybundle"
    path.write_bytes(data)
    return dataclasses.replace(runner, bundle=path)


def flip(offset: int):
    def change(data: bytearray) -> bytearray:
        data[offset] ^= 0x10
        return data

    return change


def test_no_bundle(small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    runner = dataclasses.replace(small_runner, bundle=tmp_path / "absent.pybundle")
    refused(runner, wheel_mpi, "absent.pybundle")


def test_not_a_bundle(small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    for content in (b"", b"PK", b"#!/bin/sh\n" * 1000, bytes(100_000)):
        runner = damaged(small_runner, tmp_path, lambda data, content=content: content)
        refused(runner, None, "not a pybundle file")
    refused(runner, wheel_mpi, "not a pybundle file")


def test_truncated(small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    size = small_runner.bundle.stat().st_size
    for cut in (40, 60, 200, 1000, size // 2, size - 1):
        runner = damaged(small_runner, tmp_path, lambda data, cut=cut: data[:cut])
        refused(runner, None, "truncated|not a pybundle")
    message = refused(runner, wheel_mpi, "truncated")
    assert f"expected {size} bytes, got {size - 1}" in message


def test_followed_by_other_bytes(small_runner: Runner, tmp_path: Path) -> None:
    refused(damaged(small_runner, tmp_path, lambda data: data + b"x"), None, "followed by other")


def test_newer_format(small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    index = small_runner.bundle.read_bytes().index(b"\x89pybndl\n")

    def newer(data: bytearray) -> bytearray:
        data[index + 8] = 2
        return data

    refused(damaged(small_runner, tmp_path, newer), wheel_mpi, "format 2, .* reads format 1")


def test_flipped_bytes_of_what_is_read_first(
    small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path
) -> None:
    """Index, manifest, a header, a code block, the directory: before any import.

    A process alone reads no headers and no directory, and no code but what it imports, so these
    are tried with ranks.
    """
    data = small_runner.bundle.read_bytes()
    index = data.index(b"\x89pybndl\n")
    header = data.index(b"PK\x03\x04", data.index(b"META-INF/pybundle/code/", index + 4096) - 64)
    places = {
        "index": index + 300,
        "manifest": data.index(b'"format"') + 2,
        "header": header + 5,
        "code": data.index(b"\x28\xb5\x2f\xfd", header) + 20,
        "directory": len(data) - 200,
    }
    for name, place in places.items():
        runner = damaged(small_runner, tmp_path, flip(place))
        mpi = None if name in ("index", "manifest") else wheel_mpi
        refused(runner, mpi, "corrupt|SHA-256|differ|decode")


def test_a_flipped_byte_of_code_is_refused_by_who_imports_it(
    small_runner: Runner, tmp_path: Path
) -> None:
    shown = run([small_runner.python.parent / "pybundle", "inspect", "--json", small_runner.bundle])
    entries = json.loads(shown.check().stdout)["entries"]
    blocks = [entry["offset"] for entry in entries if entry["kind"] == "code"]
    assert len(blocks) > 2
    runner = small_runner
    for block in blocks:
        runner = damaged(runner, tmp_path, flip(block + 20))
    # Nothing of it is needed, then something.
    assert runner.run("-c", "print('ran')").check().stdout == "ran\n"
    result = runner.run("-c", PROGRAM).check(1)
    assert "ran" not in result.stdout
    said = result.stderr.splitlines()[-1]
    assert said.startswith("ImportError: ") and "SHA-256" in said, result
    assert "META-INF/pybundle/code/" in said and str(runner.bundle) in said
    assert runner.left() in CLEAN


def test_a_flipped_byte_of_a_cold_file_is_an_import_error(
    small_runner: Runner, tmp_path: Path
) -> None:
    shown = run([small_runner.python.parent / "pybundle", "inspect", "--json", small_runner.bundle])
    entries = json.loads(shown.check().stdout)["entries"]
    library = next(e for e in entries if "/fast/" in e["name"] and e["name"].endswith(".so"))
    assert not library["hot"]
    runner = damaged(small_runner, tmp_path, flip(library["offset"] + 10))
    program = "try:\n    import fast\nexcept (ImportError, OSError) as error:\n    print(error)\n"
    result = runner.run("-c", program).check()
    assert Path(library["name"]).name in result.stdout, result
    assert run([runner.python.parent / "pybundle", "verify", runner.bundle]).status == 1


def test_every_byte_is_verified(small_runner: Runner, tmp_path: Path) -> None:
    command = small_runner.python.parent / "pybundle"
    run([command, "verify", small_runner.bundle]).check()
    size = small_runner.bundle.stat().st_size
    for place in range(7, size, max(1, size // 60)):
        runner = damaged(small_runner, tmp_path, flip(place))
        assert run([command, "verify", runner.bundle]).status == 1, place


def test_an_unreadable_bundle(small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    folder = tmp_path / "is-a-folder.pybundle"
    folder.mkdir()
    refused(dataclasses.replace(small_runner, bundle=folder), wheel_mpi, "is-a-folder.pybundle")


@contextlib.contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=False)
    if made.returncode != 0:
        pytest.skip("this machine can't mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(("options", "says"), [("size=64k", "room"), ("noexec", "exec")])
def test_a_node_folder_that_does_not_serve(
    options: str, says: str, small: Environment, small_runner: Runner, tmp_path: Path
) -> None:
    """It is passed over for the next one; where there is no next one, the node runs from files."""
    with tmpfs(small_runner.node_dir, options):
        result = small_runner.run("-c", "import shapes; print(shapes.__file__)").check()
        assert "/pybundle-" in result.stdout and str(small_runner.node_dir) not in result.stdout
        assert small_runner.left() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting over /dev/shm needs root")
def test_a_node_that_executes_no_files(w2: Environment, tmp_path: Path) -> None:
    """Extension modules and their libraries come from memory; paths are those of the tree."""
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("the clone lies in /tmp, from which nothing can be executed then")
    runner = bundles.runner(w2, tmp_path)
    program = (
        "import sys, subprocess, numpy.linalg, scipy.linalg, pandas, h5py, numpy.random\n"
        "from numpy._core import _multiarray_umath as first\n"
        "print(first.__file__, numpy.linalg.inv(numpy.eye(2))[0])\n"
        "child = 'import numpy; print(numpy._core._multiarray_umath.__file__)'\n"
        "print(subprocess.run([sys.executable, '-c', child], capture_output=True, text=True))\n"
    )
    mounts = "".join(f"mount -t tmpfs -o noexec none {folder}; " for folder in ("/dev/shm", "/tmp"))
    words = runner.words("--strict", "--receipt", "/tmp/receipt.json", "-c", program)
    show = f"{runner.python} -m pybundle receipt /tmp/receipt.json"
    left = 'echo "left: $(find /dev/shm -type d -name tree | wc -l)"'
    command = f'{mounts} "$@" && {show}; {left}'
    env = clean_environment(PYBUNDLE_NODE_DIR=None, TMPDIR="/tmp")
    words = ["unshare", "--mount", "sh", "-c", command, "sh", *words]
    result = run(words, env=env, timeout=90)
    if "unshare" in result.stderr or "mount:" in result.stderr:
        pytest.skip(f"this machine can't mount: {result.stderr.strip()}")
    lines = result.check().stdout.splitlines()
    file = lines[0].split()[0]
    assert file.startswith("/dev/shm/pybundle-") and file.endswith(".so"), result
    assert file in lines[1] and "returncode=0" in lines[1], result
    assert "noexec: extension modules from each process's memory" in result.stdout, result
    assert lines[-1] == "left: 0", result


def test_the_named_node_folder_comes_first(
    small: Environment, small_runner: Runner, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    dataclasses.replace(small_runner, node_dir=elsewhere).run("--keep", "-c", PROGRAM).check()
    program = "import shapes; print(shapes.__file__)"
    env = {"TMPDIR": str(elsewhere)}
    named = small_runner.run("-c", program, env=env).check()
    assert named.stdout.startswith(f"{small_runner.node_dir}/")
    # Where none is named, an image that is there is better than a new one.
    any_folder = small_runner.run("-c", program, env={**env, "PYBUNDLE_NODE_DIR": None}).check()
    assert any_folder.stdout.startswith(f"{elsewhere}/")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_is_not_an_environment(jobs: str, small: Environment, tmp_path: Path, runner) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    without = small.copy(tmp_path / "without")
    for name in ("python", "python3", f"python{small.base.minor}"):
        (without.folder / "bin" / name).unlink(missing_ok=True)
    file = tmp_path / "file"
    file.write_text("x")
    for folder, says in (
        (tmp_path / "absent", "absent"),
        (file, "not a folder|Not a directory"),
        (empty, "interpreter"),
        (without.folder, "interpreter"),
    ):
        result = run(
            [runner.pybundle, "pack", folder, "--jobs", jobs, "-o", tmp_path / "o.pybundle"]
        )
        assert result.status == 1 and re.search(says, result.stderr), result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "without"]


def test_pack_replaces_nothing_but_bundles(small: Environment, tmp_path: Path, runner) -> None:
    target = tmp_path / "thesis.txt"
    target.write_text("years of work")
    result = run([runner.pybundle, "pack", small.folder, "-o", target], timeout=120)
    assert result.status == 1 and "not a bundle" in result.stderr, result
    assert target.read_text() == "years of work"
