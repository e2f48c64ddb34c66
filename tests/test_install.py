"""What `pip install .` puts where, with and without MPI, and how it fails."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from pathlib import Path

import pytest
from support import built, mpis
from support.built import build_mpi
from support.paths import ROOT
from support.process import clean_environment


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The wheel's files."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(built.wheel()) as wheel:
        wheel.extractall(folder)
    return folder


def dynamic(run, path: Path) -> dict[str, list[str]]:
    """The NEEDED and RUNPATH entries of an ELF file."""
    text = run(["readelf", "-d", path], env=clean_environment(LC_ALL="C")).check().stdout
    found: dict[str, list[str]] = {"NEEDED": [], "RUNPATH": [], "RPATH": []}
    for tag, value in re.findall(r"\((NEEDED|RUNPATH|RPATH)\).*\[(.*)\]", text):
        found[tag] += value.split(":")
    return found


def test_the_wheel_serves_every_python_from_its_floor_on(unpacked):
    assert "-cp39-abi3-" in built.wheel().name
    assert (unpacked / "pybundle/_native.abi3.so").exists()


def test_the_command_is_a_program_without_python_and_mpi(run, unpacked):
    (command,) = unpacked.glob("pybundle-*.data/scripts/pybundle")
    needed = dynamic(run, command)["NEEDED"]
    assert needed
    assert not [name for name in needed if "mpi" in name or "python" in name]


def test_the_extension_needs_no_mpi(run, unpacked):
    needed = dynamic(run, unpacked / "pybundle/_native.abi3.so")["NEEDED"]
    assert not [name for name in needed if "mpi" in name or "python" in name]


@pytest.mark.parametrize("flavour", mpis.WHEELS)
def test_each_plugin_finds_its_own_mpi_and_brings_none(run, unpacked, flavour):
    mpi = mpis.find(flavour)
    found = dynamic(run, unpacked / f"pybundle/_mpi_{flavour}.so")
    assert [name for name in found["NEEDED"] if name.startswith("libmpi.so.")]
    assert str(mpi.library_dir) in found["RUNPATH"]
    # RPATH would win over the LD_LIBRARY_PATH of `module load`.
    assert not found["RPATH"]
    record = json.loads((unpacked / f"pybundle/_mpi_{flavour}.json").read_text())
    assert record["flavour"] == flavour
    assert record["mpicc"] == str(mpi.mpicc)
    assert not list(unpacked.rglob("libmpi*"))


def test_the_wheel_carries_the_source_of_the_plugin_alone(unpacked):
    source = unpacked / "pybundle/_mpi_src"
    assert sorted(path.name for path in (source / "src").iterdir()) == ["mpi"]
    assert (source / "Cargo.lock").exists()
    assert 'members = ["src/mpi"]' in (source / "Cargo.toml").read_text()


def build_plugins(run, tmp_path: Path, **variables: str | None):
    """The step of the build that makes plug-ins, alone."""
    script = "import sys, pathlib, plugins; plugins.build_plugins(pathlib.Path(sys.argv[1]))"
    env = clean_environment(PYTHONPATH=str(ROOT / "build_support"), **variables)
    return run([sys.executable, "-c", script, tmp_path], env=env, timeout=600)


def test_without_mpicc_one_line_says_so(run, tmp_path):
    stale = tmp_path / "_mpi_mpich.so"
    stale.touch()
    result = build_plugins(run, tmp_path, PYBUNDLE_MPICC="").check()
    assert re.fullmatch(r"pybundle: no mpicc, .*pybundle mpi add MPICC.*\n", result.stderr)
    assert not stale.exists(), "a plug-in of an earlier build is left"


def test_a_named_mpicc_that_fails_fails_the_build(run, tmp_path):
    result = build_plugins(run, tmp_path, PYBUNDLE_MPICC="/no/such/mpicc").check(1)
    assert result.stderr == "error: no such compiler wrapper: `/no/such/mpicc`\n"


def test_a_found_mpicc_that_fails_is_a_warning(run, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    wrapper = tools / "mpicc"
    wrapper.write_text("#!/bin/sh\necho 'mpi.h: gone' >&2\nexit 1\n")
    wrapper.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    result = build_plugins(run, tmp_path, PYBUNDLE_MPICC=None, PATH=path).check()
    assert "warning" in result.stderr
    assert "mpi.h: gone" in result.stderr


def test_a_wrapper_of_no_known_mpi_is_refused(tmp_path):
    wrapper = tmp_path / "mpicc"
    wrapper.write_text('#!/bin/sh\necho "#define OTHER_MPI 1"\n')
    wrapper.chmod(0o755)
    with pytest.raises(build_mpi.BuildError, match="neither Open MPI nor a relative of MPICH"):
        build_mpi.probe(str(wrapper))


def test_mpis_are_told_apart(mpi):
    found = build_mpi.probe(str(mpi.mpicc))
    assert found.flavour == mpi.flavour
    assert re.match(r"\d+\.\d+", found.version)


def test_libclang_is_asked_for_only_where_an_mpicc_is(run, tmp_path):
    script = "import backend; print(backend.get_requires_for_build_wheel())"
    for value, expected in (("", False), ("mpicc", True)):
        env = clean_environment(
            PYTHONPATH=str(ROOT / "build_support"), PYBUNDLE_MPICC=value, LIBCLANG_PATH=None
        )
        result = run([sys.executable, "-c", script], env=env, cwd=ROOT).check()
        assert ("'libclang'" in result.stdout) == expected


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mpi_add_builds_a_plugin_that_reinstalling_keeps(run, runner, tmp_path):
    mpicc = str(mpis.find("mpich").mpicc)
    clang = next(Path(sys.prefix).glob("lib/python*/site-packages/clang/native"), None)
    env = clean_environment(XDG_DATA_HOME=str(tmp_path))
    if clang is not None:
        env["LIBCLANG_PATH"] = str(clang)
    command = [runner.python, "-m", "pybundle", "mpi"]
    for _ in range(2):  # The second replaces the first.
        plugin = tmp_path / "pybundle/mpi/_mpi_mpich.so"
        added = run([*command, "add", mpicc], env=env, timeout=600).check()
        assert added.stdout == f"{plugin}\n"
    assert sorted(os.listdir(plugin.parent)) == ["_mpi_mpich.json", "_mpi_mpich.so"]
    listed = run([*command, "list"], env=env).check().stdout.splitlines()
    assert [line.split("\t")[1] for line in listed] == ["mpich", "openmpi", "mpich"]
    run([*command, "remove", plugin.name], env=env).check()
    assert os.listdir(plugin.parent) == []
    wrong = run([*command, "remove", plugin.name], env=env).check(1)
    assert "no such plug-in" in wrong.stderr


def test_mpi_add_without_cargo_says_what_is_missing(run, runner, tmp_path):
    mpi = mpis.find("mpich")
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for tool in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if not tool.name.startswith(("cargo", "rust")) and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    env = clean_environment(XDG_DATA_HOME=str(tmp_path), PATH=str(tools), CARGO=None)
    result = run([runner.python, "-m", "pybundle", "mpi", "add", mpi.mpicc], env=env).check(1)
    assert "cargo is not on PATH" in result.stderr
    assert os.listdir(tmp_path / "pybundle/mpi") == []


# A Python without the global interpreter lock tells by this flag; few machines have one.
FREE_THREADED = "import runpy, sys; sys.abiflags = 't'; "
STARTS = {
    "run": "sys.argv = ['', 'run', '-c', '1']; runpy.run_module('pybundle', None, '__main__')",
    "site": "import pybundle._site; pybundle._site.arm(); import sitecustomize",
    "build": f"sys.path.insert(0, {str(ROOT / 'build_support')!r}); import plugins",
}


@pytest.mark.parametrize("way", STARTS)
def test_a_free_threaded_python_is_refused_by_name(run, runner, tmp_path, way):
    version = run([runner.python, "-c", "import platform as p; print(p.python_version())"]).check()
    result = run([runner.python, "-c", FREE_THREADED + STARTS[way]], cwd=tmp_path).check(1)
    assert result.stdout == ""
    assert re.fullmatch(
        r"error: this Python is not supported: expected CPython .* with the global interpreter"
        rf" lock, got CPython {version.stdout.strip()} without it \(free-threaded\): .*\n",
        result.stderr,
    )
