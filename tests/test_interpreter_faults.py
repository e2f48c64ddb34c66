"""What can go wrong with a packed interpreter on its node: it is said once, nothing is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bundles
from support.bundles import CLEAN, PackedRunner
from support.environments import Environment
from support.process import Result, clean_environment, run

WHERE = (
    "import json, plain, sys; print(type(json.__loader__).__name__);"
    "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libpython' in line})"
)


@pytest.fixture
def packed(small: Environment, tmp_path: Path) -> PackedRunner:
    """Runs the small bundle by its own Python."""
    (tmp_path / "node").mkdir()
    return bundles.packed_runner(small, tmp_path / "node")


class Staged:
    """The staged image of a bundle."""

    def __init__(self, packed: PackedRunner) -> None:
        self.packed = packed
        env = clean_environment(**packed.variables())
        words = [packed.python.with_name("pybundle"), "stage", "--bundle", packed.bundle]
        run(words, env=env, timeout=60).check()
        (self.image,) = (path.parent for path in packed.node_dir.glob("pybundle-*/*/state"))
        found = [
            path
            for path in (self.image / "tree").rglob("libpython3.*so*")
            if path.is_file() and not path.is_symlink()
        ]
        (self.library,) = found
        _, *opened = self.python("-c", WHERE).check().stdout.split()
        if not opened:
            pytest.skip("this Python's executable needs no libpython")
        assert opened == [str(self.library)]

    def python(self, *args: object, **env: str) -> Result:
        """Run the image's Python."""
        words = [self.image / "tree/bin/python", *args]
        return run(words, env=clean_environment(**env), timeout=60)

    def another_build(self, folder: Path) -> Path:
        """A copy of its library whose linker says that it is another one."""
        data = self.library.read_bytes()
        # The note's name, and before it the lengths of both and the type.
        note = re.search(rb"\x04\0\0\0.\0\0\0\x03\0\0\0GNU\0", data, re.DOTALL)
        if note is None:
            pytest.skip("this Python's linker wrote no build ID")
        changed = bytearray(data)
        changed[note.end()] ^= 0xFF
        folder.mkdir()
        path = folder / self.library.name
        path.write_bytes(changed)
        path.chmod(0o755)
        return path


def test_the_packed_library_comes_before_those_of_modules(packed, tmp_path):
    # A batch script has loaded the module of some Python: `LD_LIBRARY_PATH` leads to its library.
    staged = Staged(packed)
    other = staged.another_build(tmp_path / "other")
    result = staged.python("-c", WHERE, LD_LIBRARY_PATH=str(other.parent)).check()
    assert result.stdout.split() == ["SourceLoader", str(staged.library)]


@pytest.mark.mpi
def test_a_library_of_another_build_is_refused(packed, wheel_mpi, tmp_path):
    staged = Staged(packed)
    other = staged.another_build(tmp_path / "other")
    os.replace(other, staged.library)
    line = ["-c", "print('ran')"]
    for result in (
        staged.python(*line),
        packed.run(*line),
        packed.launch(wheel_mpi, 3, line),
    ):
        assert result.status == 1 and "ran" not in result.stdout
        assert result.stderr.count("another build of Python") == 1, result
        assert "build ID: expected" in result.stderr and "pybundle unstage" in result.stderr


def test_a_library_that_is_gone_is_missed(packed):
    staged = Staged(packed)
    staged.library.unlink()
    result = packed.run("-c", "print('ran')")
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr.count("error:") == 1
    assert str(staged.library) in result.stderr and "pybundle unstage" in result.stderr


@pytest.mark.parametrize("way", ["packed", "run"])
def test_an_image_removed_under_a_program(way, packed, small, tmp_path):
    """What was imported stays; what needs a file that is gone is an ImportError, not a crash."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, plain, shutil, sys\n"
        "image = plain.__file__.partition('/tree/')[0]\n"
        "shutil.rmtree(image)\n"
        "for name in ('shapes.area', 'fast'):\n"
        "    try:\n        __import__(name)\n"
        "    except ImportError as error:\n        print(error)\n"
        "print(image, plain.__name__)\n"
    )
    runner = packed if way == "packed" else bundles.runner(small, packed.node_dir)
    result = runner.run(program).check()
    *errors, last = result.stdout.splitlines()
    image, name = last.split()
    assert name == "plain"
    assert len(errors) == 2, result
    for error in errors:
        assert "No such file" in error and image in error and str(runner.bundle) in error
    assert runner.left() in CLEAN
    # And the next job makes it anew.
    assert "SourceLoader" in runner.run("-c", WHERE).check().stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own can't be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="being two users needs root")
def test_two_users_on_a_node_have_an_image_each(packed, open_folder):
    # The other user can't even read the interpreter that was packed, where it lies at home.
    own = bundles.carried(packed, open_folder / "own")
    bundle = shutil.copy(packed.bundle, open_folder / "env.pybundle")
    Path(bundle).chmod(0o644)
    nodes = open_folder / "nodes"
    nodes.mkdir()
    nodes.chmod(0o1777)
    line = "import json, os, plain, time; time.sleep(1)\n"
    line += "print(json.dumps([os.getuid(), plain.__file__]))"
    words = [own / "bin/pybundle-python", "--bundle", bundle, "-c", line]
    env = clean_environment(PYBUNDLE_NODE_DIR=str(nodes), HOME=str(open_folder))
    jobs = [
        subprocess.Popen(
            list(map(str, words)),
            env=env,
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
            user=user,
            group=user,
            extra_groups=[],
        )
        for user in (0, 65534)
    ]
    shown = [json.loads(job.communicate(timeout=60)[0]) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    for user, (uid, file) in zip((0, 65534), shown):
        assert uid == user and file.startswith(f"{nodes}/pybundle-{user}/")
    assert {path.name for path in nodes.rglob("*") if not path.is_dir()} <= {"lock"}
