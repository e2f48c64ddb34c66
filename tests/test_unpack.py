"""`pybundle unpack`: the environment back, working, with bytecode; what is bad is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import bundles
from support.environments import Environment
from support.process import Result, clean_environment, run
from support.pythons import Python

ROOTS = "META-INF/pybundle/roots"
IMPORTS = "import asyncio, decimal, json, sqlite3, ssl, fast, plain, shapes.area, spaced.one"


@dataclass(frozen=True)
class Unpacked:
    """An environment, its bundle, and what was unpacked of it."""

    environment: Environment
    bundle: Path
    folder: Path
    said: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def run(self, *words: object, **options) -> Result:
        """A program by its interpreter, which may write bytecode."""
        env = clean_environment(PYTHONDONTWRITEBYTECODE=None, **options.pop("env", {}))
        return run([self.python, *words], env=env, **options)

    def manifest(self) -> dict:
        """The bundle's."""
        shown = unpack_command(self.environment, "inspect", "--json", self.bundle).check()
        return json.loads(shown.stdout)["manifest"]


def unpack_command(environment: Environment, *words: object, **options) -> Result:
    """The command, of an installation for the environment's Python."""
    command = bundles.runner(environment, Path()).python.with_name("pybundle")
    return run([command, *words], **options)


def unpack(environment: Environment, folder: Path) -> Unpacked:
    bundle = bundles.bundle(environment)
    done = unpack_command(environment, "unpack", bundle, folder).check()
    assert done.stdout == ""
    return Unpacked(environment, bundle, folder, done.stderr)


@pytest.fixture
def unpacked(small: Environment, tmp_path: Path) -> Unpacked:
    """The small environment."""
    return unpack(small, tmp_path / "unpacked")


@pytest.fixture
def each_unpacked(each_python: Python, environment, tmp_path: Path) -> Unpacked:
    """The small environment of every Python."""
    return unpack(environment("small", each_python), tmp_path / "unpacked")


def walk(top: Path) -> Iterator[tuple[str, Path]]:
    """All below a folder, links not followed, but for Python's own bytecode."""
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = Path(folder, name)
            if path.parent.name != "__pycache__" or path.suffix != ".pyc":
                yield os.fspath(path.relative_to(top)), path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode) & 0o777


def same(original: Path, copy: Path) -> bool:
    """Files with the same bytes and permissions."""
    return mode(original) == mode(copy) and original.read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("name", ["small", "varied"])
def test_everything_comes_back(name: str, python: Python, environment, tmp_path: Path):
    packed = environment(name, python)
    unpacked = unpack(packed, tmp_path / "unpacked")
    there = dict(walk(unpacked.folder))
    files = links = 0
    for path, original in walk(packed.folder):
        if original.name == "__pycache__":
            continue
        copy = there.pop(path)
        if original.is_symlink():
            links += 1
            assert copy.is_symlink(), path
            if original.resolve().is_relative_to(packed.folder):
                assert os.readlink(copy) == os.readlink(original), path
            else:
                # The base's interpreter: packed, and the link leads to it.
                assert re.fullmatch(r"bin/python[\d.]*", path)
                assert copy.resolve().is_relative_to(unpacked.folder / ROOTS)
        elif original.is_dir():
            assert copy.is_dir() and not copy.is_symlink(), path
            if not any(original.iterdir()):
                assert mode(copy) == mode(original), path
        elif path == "pyvenv.cfg":
            assert mode(copy) == mode(original)
            assert_leads_inside(original.read_text(), copy.read_text(), unpacked.folder)
        else:
            files += 1
            assert same(original, copy), path
    assert files > 30 and links >= 4
    # What is left is the base Python's: as it is where that lies.
    left = {path: copy for path, copy in there.items() if copy.name != "__pycache__"}
    roots = unpacked.manifest()["roots"]
    libraries = 0
    for path, copy in left.items():
        if copy.is_dir() and not copy.is_symlink():
            assert f"{path}/".startswith(f"{ROOTS}/") or f"{ROOTS}/".startswith(f"{path}/")
            continue
        within = (root for root in roots[1:] if path.startswith(f"{root['folder']}/"))
        root = next(within, None)
        if root is None:
            assert re.fullmatch(rf"{ROOTS}/\d+/(bin/python[\d.]*|lib/libpython[^/]*)", path)
            continue
        original = Path(root["paths"][-1], os.path.relpath(path, root["folder"]))
        if copy.suffix in (".py", ".txt"):
            assert same(original, copy), path
            libraries += 1
    assert libraries > 400
    counted = re.search(r"unpacked   (\d+) files with .*, (\d+) links, bytecode", unpacked.said)
    assert counted is not None
    counts = unpacked.manifest()["counts"]
    assert [int(each) for each in counted.groups()] == [counts["files"], counts["links"]]


def assert_leads_inside(original: str, copy: str, folder: Path) -> None:
    """What a venv says of its base is said of the packed one, and all else as it was."""
    pairs = list(zip(original.splitlines(), copy.splitlines()))
    assert len(original.splitlines()) == len(copy.splitlines())
    changed = {new.split(" = ")[0]: new.split(" = ")[1] for old, new in pairs if old != new}
    assert "home" in changed and set(changed) <= {"home", "executable", "base-executable"}
    for value in changed.values():
        assert Path(value).is_relative_to(folder / ROOTS) and Path(value).exists()


BYTECODE = """
import importlib.util, json, marshal, os, sys

def names(code):
    yield code.co_filename
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from names(constant)

good, absent, bad = [], [], []
for folder, _, files in os.walk(sys.argv[1]):
    for path in (os.path.join(folder, file) for file in files if file.endswith(".py")):
        cached = importlib.util.cache_from_source(path)
        if not os.path.exists(cached):
            absent.append(path)
            continue
        with open(cached, "rb") as file:
            data = file.read()
        code = marshal.loads(data[16:])
        with open(path, "rb") as file:
            fresh = compile(file.read(), path, "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0"
        fits = data[:8] == header and code == fresh and set(names(code)) == {path}
        (good if fits else bad).append(path)
print(json.dumps([good, absent, bad]))
"""


def test_bytecode_is_that_of_the_sources(each_unpacked: Unpacked):
    shown = each_unpacked.run("-W", "ignore", "-c", BYTECODE, each_unpacked.folder, timeout=100)
    good, absent, bad = json.loads(shown.check().stdout)
    assert bad == []
    # What doesn't compile, and what no import finds.
    packages = each_unpacked.environment.packages.relative_to(each_unpacked.environment.folder)
    expected = {"bin/activate_this.py", f"{packages}/shapes/old.py"}
    left = {os.path.relpath(path, each_unpacked.folder) for path in absent} - expected
    assert all("/lib2to3/tests/data/" in path or "__phello__.foo" in path for path in left), left
    counts = each_unpacked.manifest()["counts"]
    assert len(good) == counts["modules"] > 400
    assert f"bytecode of {len(good)} modules" in each_unpacked.said


def test_nothing_is_compiled_or_written(each_unpacked: Unpacked):
    before = {path: path.lstat().st_mtime_ns for path in each_unpacked.folder.rglob("*")}
    line = f"{IMPORTS}, sys; print(json.__file__, shapes.__file__, json.__cached__, sys.prefix)"
    verbose = each_unpacked.run("-v", "-c", line).check()
    *files, prefix = verbose.stdout.split()
    assert prefix == str(each_unpacked.folder)
    assert all(file.startswith(f"{prefix}/") and os.path.exists(file) for file in files)
    assert not re.search(r"(?m)^# (code object from .*\.py'?$|wrote )", verbose.stderr)
    assert f"{each_unpacked.environment.base.prefix}/lib" not in verbose.stderr
    assert str(each_unpacked.environment.folder) not in verbose.stderr
    assert {path: path.lstat().st_mtime_ns for path in each_unpacked.folder.rglob("*")} == before


def test_sources_are_not_looked_into(each_unpacked: Unpacked):
    for path in each_unpacked.folder.rglob("*.py"):
        path.write_text("raise SystemExit('compiled from source')\n")
    shown = each_unpacked.run("-c", f"{IMPORTS}; print(shapes.area, fast)").check()
    assert str(each_unpacked.folder) in shown.stdout


def test_tracebacks_name_the_place(unpacked: Unpacked):
    failed = unpacked.run("-c", "import json; json.loads('{')").check(1)
    file = unpacked.folder / ROOTS
    assert re.search(rf'File "{re.escape(str(file))}/\d+/lib/.*/json/decoder.py"', failed.stderr)
    # With the source's line, which is looked up by that name.
    assert "obj, end = self.raw_decode(" in failed.stderr


def test_it_needs_neither_environment_nor_base(unpacked: Unpacked):
    environment = unpacked.environment
    if os.geteuid() != 0 or environment.base.prefix == Path("/usr"):
        pytest.skip("hiding the base needs root, and a base that nothing else needs")
    hidden = (environment.folder, environment.base.prefix)
    mounts = "".join(f"mount -t tmpfs none '{folder}' && " for folder in hidden)
    words = ["unshare", "--mount", "sh", "-c", f'{mounts} exec "$@"', "sh"]
    result = run([*words, unpacked.python, "-c", f"{IMPORTS}; print(fast)"])
    if "unshare" in result.stderr or "mount:" in result.stderr:
        pytest.skip(f"this machine can't mount: {result.stderr.strip()}")
    assert str(unpacked.folder) in result.check().stdout


NUMPY = "import numpy, sys; print(numpy.linalg.inv(numpy.eye(2) * 2).sum(), numpy.__file__)"


def test_it_can_be_packed_again(unpacked: Unpacked, tmp_path: Path):
    bundle, folder = tmp_path / "again.pybundle", tmp_path / "again"
    unpack_command(unpacked.environment, "pack", unpacked.folder, "-o", bundle).check()
    again = Unpacked(unpacked.environment, bundle, folder, "")
    unpack_command(unpacked.environment, "unpack", bundle, folder).check()
    # What it was packed with is part of it now.
    assert [root["folder"] for root in again.manifest()["roots"]][:1] == [""]
    assert str(unpacked.environment.base.prefix) not in json.dumps(again.manifest()["roots"])
    places = "import sys, json; print(sys.base_prefix, json.__file__)"
    for place in again.run("-c", f"{IMPORTS}; {places}").check().stdout.split():
        assert place.startswith(f"{folder}/{ROOTS}/"), place


def test_numpy_works(python: Python, environment, tmp_path: Path):
    unpacked = unpack(environment("core", python), tmp_path / "unpacked")
    shown = unpacked.run("-v", "-c", NUMPY).check()
    assert shown.stdout.startswith(f"1.0 {unpacked.folder}/")
    assert "# wrote " not in shown.stderr


def test_bsdtar_unpacks_a_working_environment_too(python: Python, environment, tmp_path: Path):
    bsdtar = shutil.which("bsdtar")
    if bsdtar is None:
        pytest.skip("no bsdtar on this machine (Debian: libarchive-tools)")
    core = environment("core", python)
    ours = unpack(core, tmp_path / "ours")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    run([bsdtar, "-xpf", bundles.bundle(core), "-C", theirs]).check()
    shown = run([theirs / "bin/python", "-c", NUMPY]).check()
    assert shown.stdout.startswith(f"1.0 {theirs}/")
    # The same below the same paths, but for the format's own and the base's place.
    there, here = dict(walk(theirs)), dict(walk(ours.folder))
    own = {path for path in there if re.match(r"META-INF/pybundle/(?!roots\b)", path)}
    assert own >= {"META-INF/pybundle/index", "META-INF/pybundle/manifest.json"}
    assert {path for path in here if here[path].name != "__pycache__"} == {*there} - own
    for path in {*there} - own - {"pyvenv.cfg"}:
        if there[path].is_symlink():
            assert os.readlink(here[path]) == os.readlink(there[path])
        elif there[path].is_file():
            assert same(there[path], here[path]), path


def refused(environment: Environment, bundle: Path, folder: Path, says: str) -> None:
    """One message, and nothing that wasn't there."""
    before = sorted(folder.parent.rglob("*"))
    result = unpack_command(environment, "unpack", bundle, folder).check(1)
    assert re.search(says, result.stderr), result
    assert result.stderr.count("error: ") == 1 and result.stderr.count("\n") == 1, result
    assert result.stdout == "" and "panicked" not in result.stderr
    assert sorted(folder.parent.rglob("*")) == before


def test_only_an_empty_folder_is_replaced(small: Environment, tmp_path: Path):
    bundle = bundles.bundle(small)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("x")
    refused(small, bundle, full, r"empty folder or none, got one that holds `thesis.txt`: `.*full`")
    refused(small, bundle, file, "empty folder or none, got a file: `.*file`")
    refused(small, bundle, tmp_path / "absent/folder", "absent/folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    here = unpack_command(small, "unpack", bundle, ".", cwd=empty).check(1)
    assert "it is the working folder" in here.stderr and list(empty.iterdir()) == []
    if os.geteuid() == 0:
        line = 'mount -t tmpfs none "$1" && exec "$0" unpack "$2" "$1"'
        command = bundles.runner(small, Path()).python.with_name("pybundle")
        result = run(["unshare", "--mount", "sh", "-c", line, command, empty, bundle])
        if "unshare" not in result.stderr and "mount:" not in result.stderr:
            assert "it is a mount point; name a folder in it" in result.check(1).stderr
    # By a relative path, too: what is in it is absolute.
    unpack_command(small, "unpack", bundle, "empty", cwd=tmp_path).check()
    shown = run([empty / "bin/python", "-c", "import plain; print(plain.__file__)"]).check()
    assert shown.stdout.startswith(f"{empty}/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


def test_bad_bundles_are_refused(small: Environment, tmp_path: Path):
    data = bundles.bundle(small).read_bytes()
    bad = tmp_path / "bad.pybundle"
    place = tmp_path / "place"
    refused(small, tmp_path / "none.pybundle", place, "none.pybundle")
    for content in (b"", b"PK", b"#!/bin/sh\n" * 1000):
        bad.write_bytes(content)
        refused(small, bad, place, "not a pybundle file: `.*bad.pybundle`")
    for size in (200, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:size])
        refused(small, bad, place, rf"truncated: expected \d+ bytes, got {size}: `.*bad.pybundle`")
    for at in range(7, len(data), len(data) // 12):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        bad.write_bytes(flipped)
        refused(small, bad, place, "bad.pybundle")


def test_a_flipped_byte_is_found_in_its_entry(small: Environment, tmp_path: Path):
    bundle = bundles.bundle(small)
    shown = unpack_command(small, "inspect", "--json", bundle).check()
    entries = json.loads(shown.stdout)["entries"]
    bad = tmp_path / "bad.pybundle"
    for kind in ("file", "link", "code"):
        entry = next(each for each in reversed(entries) if each["kind"] == kind and each["stored"])
        flipped = bytearray(bundle.read_bytes())
        flipped[entry["offset"]] ^= 1
        bad.write_bytes(flipped)
        says = f"SHA-256.*: `{re.escape(entry['name'])}` of bundle `.*bad.pybundle`"
        refused(small, bad, tmp_path / "place", says)


def test_an_interrupted_one_leaves_nothing(small: Environment, tmp_path: Path):
    bundle = bundles.bundle(small)
    command = bundles.runner(small, Path()).python.with_name("pybundle")
    words = [command, "unpack", bundle, tmp_path / "place"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".pybundle-unpack-*/environment/*")):
            assert process.poll() is None and time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(30) == -number
        assert list(tmp_path.iterdir()) == []
    # Who wants it ignored gets it ignored.
    line = 'trap "" HUP; exec "$@"'
    process = subprocess.Popen(["sh", "-c", line, "sh", *words], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".pybundle-unpack-*/environment/*")):
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
