"""`pybundle stage`: complete images that outlive their job, and a Python in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import bundles, counter
from support.bundles import Runner
from support.environments import Environment
from support.paths import ROOT
from support.process import Result, clean_environment, run
from support.pythons import Python


class Stage:
    """The commands for one bundle on this node."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.program = runner.python.with_name("pybundle")

    def __call__(self, command: str, *words: object, mpi=None, ranks: int = 1) -> Result:
        env = self.runner.variables()
        line = [self.program, command, *words]
        if mpi is not None:
            return mpi.run(ranks, line, env=env, timeout=60).check()
        return run(line, env=clean_environment(**env), timeout=60).check()

    def stage(self, *words: object, mpi=None, ranks: int = 1) -> Result:
        return self("stage", "--bundle", self.runner.bundle, *words, mpi=mpi, ranks=ranks)

    def images(self) -> list[Path]:
        """The images that lie on the node."""
        found = self.runner.node_dir.glob("pybundle-*/*/state")
        return [path.parent for path in found]


def python_of(staged: Result) -> Path:
    """The Python that the printed lines put on PATH."""
    line = 'eval "$1"; command -v python'
    found = run(["sh", "-c", line, "sh", staged.stdout], env=clean_environment()).check()
    return Path(found.stdout.strip())


@pytest.fixture
def stage(small: Environment, tmp_path: Path) -> Stage:
    (tmp_path / "node").mkdir()
    return Stage(bundles.runner(small, tmp_path / "node"))


WHERE = (
    "import json, os, plain, sys; print(type(json.__loader__).__name__,"
    " type(plain.__loader__).__name__, sys.prefix, os.path.exists(json.__cached__))"
)


def test_the_staged_python_is_complete(each_python: Python, environment, tmp_path):
    (tmp_path / "node").mkdir()
    stage = Stage(bundles.runner(environment("small", each_python), tmp_path / "node"))
    staged = stage.stage()
    python = python_of(staged)
    tree = str(python.parent.parent)
    assert tree.startswith(str(tmp_path / "node"))
    # With its finder, whatever options and variables say; and without it, by files and bytecode.
    for options in ([], ["-I"], ["-E", "-s", "-B"]):
        found = run([python, *options, "-c", WHERE], env=clean_environment()).check()
        assert found.stdout.split() == ["SourceLoader", "SourceLoader", tree, "True"]
        assert found.stderr == ""
    env = clean_environment(PYBUNDLE_DISABLE="1", PYTHONDONTWRITEBYTECODE=None)
    verbose = run([python, "-v", "-c", WHERE], env=env).check()
    assert verbose.stdout.split() == ["SourceFileLoader", "SourceFileLoader", tree, "True"]
    # Nothing was compiled, nothing was written.
    assert not re.search(r"(?m)^# (code object from .*\.py'?$|wrote )", verbose.stderr)
    assert f"{each_python.prefix}/" not in verbose.stderr
    bare = run([python, "-I", "-S", "-c", "import json; print(json.__file__)"]).check()
    assert bare.stdout.startswith(tree)
    assert stage("unstage").stdout.endswith("removed\n")
    assert stage.images() == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_prefix_that_was_moved_is_staged_whole(runner: Environment, python: Python, tmp_path):
    if python.prefix == Path("/usr"):
        pytest.skip("a system's Python is no prefix of its own")
    # As conda's and a module's: Python and packages in one prefix, not where it was built for. What
    # its executable names is another folder, with a library that is not to be read.
    base, lib = python.prefix, f"lib/python{python.minor}"
    moved = tmp_path / "moved"
    skip = shutil.ignore_patterns("test", "site-packages", "idlelib", "config-*", "ensurepip")
    shutil.copytree(base / lib, moved / lib, ignore=skip, symlinks=True)
    (moved / "bin").mkdir()
    shutil.copy(python.executable, moved / "bin" / "python3")
    for library in base.glob("lib/libpython3*.so*"):
        shutil.copy(library, moved / "lib", follow_symlinks=False)
    site = moved / lib / "site-packages"
    site.mkdir()
    (site / "plain.py").write_text("NAME = __name__\n")
    bundle = tmp_path / "moved.pybundle"
    run([runner.pybundle, "pack", moved, "--level", "1", "-o", bundle], timeout=120).check()
    (tmp_path / "node").mkdir()
    stage = Stage(Runner(bundle, runner.python, tmp_path / "node"))
    staged = stage.stage()
    line = f"{WHERE}; print({{line.split()[-1] for line in open('/proc/self/maps')}})"
    tree = re.search(r"'([^']*/tree/bin)'", staged.stdout)
    assert tree is not None
    found = run([Path(tree[1]) / "python3", "-c", line], env=clean_environment()).check()
    assert found.stdout.startswith("SourceLoader SourceLoader ")
    assert str(base) not in found.stdout


def test_later_starts_touch_nothing_else(stage: Stage, small: Environment, tmp_path):
    python = python_of(stage.stage())
    program = tmp_path / "program.py"
    program.write_text(
        f"{counter.MARK}\nmark('program')\nimport asyncio, decimal, plain, shapes.area\n"
    )
    below = [small.folder, *small.base.places, stage.runner.bundle]
    report = tmp_path / "counts.json"
    words = [*counter.command(report, below, paths=True), python, program]
    run(words, env=clean_environment(), timeout=60).check()
    for process in counter.parse(json.loads(report.read_text())):
        for phase in process.phases:
            assert not any(phase.below), phase.paths


@pytest.mark.mpi
def test_ranks_stage_once_a_node(stage: Stage, wheel_mpi):
    staged = stage.stage(mpi=wheel_mpi, ranks=3)
    assert staged.stdout.count("export PATH=") == 1
    assert re.search(r"# staged: .* on 1 node\n", staged.stdout)
    (image,) = stage.images()
    # What was broadcast is decoded: it needs no room beside that.
    assert (image / "packed").stat().st_blocks == 0
    python = python_of(staged)
    line = "import plain, sys; sys.stdout.write(f'{type(plain.__loader__).__name__}\\n')"
    ranks = wheel_mpi.run(2, [python, "-c", line], env=stage.runner.variables()).check()
    assert ranks.stdout.splitlines() == ["SourceLoader"] * 2
    # Who runs the bundle by another Python shares the image.
    stage.runner.launch(wheel_mpi, 2, ["-c", "import plain"]).check()
    assert len(stage.images()) == 1
    stage("unstage", mpi=wheel_mpi, ranks=2)
    assert stage.images() == []


def test_an_image_in_use_goes_with_its_last_process(stage: Stage):
    python = python_of(stage.stage())
    line = "import plain, sys; print('ready', flush=True); sys.stdin.read()"
    env = {name: value for name, value in clean_environment().items() if value is not None}
    process = subprocess.Popen(
        [python, "-c", line], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        assert "in use" in stage("unstage").stdout
        assert len(stage.images()) == 1
        process.stdin.close()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert stage.images() == []


def test_images_past_their_limit_are_swept(stage: Stage, environment, python, tmp_path):
    stage.stage("--limit", "5s")
    (before,) = stage.images()
    other = bundles.runner(environment("varied", python), stage.runner.node_dir)
    deadline = time.monotonic() + 30
    # Whatever else runs on the node removes it, once its time is over.
    while before in stage.images() and time.monotonic() < deadline:
        other.run("-c", "pass").check()
    assert stage.images() == []
    stage.stage("--limit", "1h")
    other.run("-c", "pass").check()
    assert stage.images() == [before]
    stage("unstage", "--bundle", other.bundle)
    assert stage.images() == [before]
    stage("unstage", "--bundle", stage.runner.bundle)
    assert stage.images() == []


def test_held_images_end_with_their_step(stage: Stage):
    words = [stage.program, "stage", "--hold", "--bundle", stage.runner.bundle]
    env = clean_environment(**stage.runner.variables())
    process = subprocess.Popen(
        list(map(os.fspath, words)),
        env={name: value for name, value in env.items() if value is not None},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert "until this step ends" in lines[1]
        assert len(stage.images()) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert stage.images() == []


def test_what_cannot_be_staged_is_said_once(stage: Stage, wheel_mpi, tmp_path):
    absent = tmp_path / "absent.pybundle"
    words = [stage.program, "stage", "--bundle", absent]
    result = wheel_mpi.run(2, words, env=stage.runner.variables(), timeout=60)
    assert result.status != 0
    assert result.stderr.count("error:") == 1 and "absent.pybundle" in result.stderr
    assert stage.images() == []


@pytest.mark.mpi
def test_output_that_nobody_takes_ends_the_job(stage: Stage, wheel_mpi):
    # Root alone prints; the others are at the end of MPI by then.
    line = 'exec "$0" stage --bundle "$1" > /dev/full'
    words = ["sh", "-c", line, stage.program, stage.runner.bundle]
    result = wheel_mpi.run(2, words, env=stage.runner.variables(), timeout=60)
    assert result.status == 1
    assert "No space left" in result.stderr


def elsewhere(stage: Stage, mounts: dict[object, str], script: str, **env: str | None) -> Result:
    """Stage where file systems are mounted over folders, with options; then run a script."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    lines = [f"mount -t tmpfs -o {options} none {folder}" for folder, options in mounts.items()]
    command = " && ".join([*lines, '"$0" stage --bundle "$1"', script])
    words = ["unshare", "--mount", "sh", "-c", command, stage.program, stage.runner.bundle]
    variables = clean_environment(**stage.runner.variables(env))
    result = run(words, env=variables, timeout=60)
    if "unshare" in result.stderr or "mount:" in result.stderr:
        pytest.skip(f"this machine can't mount: {result.stderr.strip()}")
    return result.check()


def test_it_says_who_finds_the_images(stage: Stage):
    if os.stat("/proc/self/ns/pid").st_ino != 0xEFFF_FFFC:
        pytest.skip("in a container it can't be told")
    assert "for this job and your later ones on these nodes" in stage.stage().stdout
    private = elsewhere(stage, {stage.runner.node_dir: "size=4g"}, "true")
    assert "for the steps of this job: it has a file system of its own there" in private.stdout


def test_where_nothing_can_be_run_it_says_so(stage: Stage):
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("the clone lies in /tmp, from which nothing can be executed then")
    mounts = {"/dev/shm": "noexec,size=4g", "/tmp": "noexec,size=4g"}
    script = "cd /dev/shm/*/*/boot && ls && ls -l pybundle"
    env = {"PYBUNDLE_NODE_DIR": None, "TMPDIR": "/tmp"}
    *_, listed = elsewhere(stage, mounts, script, **env).stdout.split("# ")
    assert "mounted noexec: use `python -m pybundle run`" in listed
    # A library is opened where it lies: a copy could not be.
    names = listed.split()
    libraries = [line for line in listed.splitlines() if line.endswith(".so")]
    assert len(libraries) >= 2 and all(" -> " in line for line in libraries), listed
    assert "bin" not in names and "export" not in names
