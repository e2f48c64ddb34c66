"""Child processes: they import from the node image, and none of them starts MPI."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import time
from pathlib import Path

import pytest
from support import bundles, pythons
from support.mpis import Mpi

# What a process says of itself: whether its modules come from the image, whether MPI is loaded.
ABOUT = """\
import os, sys
def about(*_):
    import plain, shapes.area
    image = os.environ.get("PYBUNDLE_IMAGE", "no image")
    modules = all(m.__file__.startswith(image) for m in (plain, shapes.area))
    return modules, "libmpi" in open("/proc/self/maps").read()
"""

WAYS = {
    "subprocess": """
    words = [sys.executable, "-c", ABOUT + "print(about())"]
    print(subprocess.run(words, capture_output=True, text=True).stdout)
""",
    "a shell": """
    command = f"{sys.executable} -c '" + ABOUT.replace("'", '"') + "print(about())'"
    print(subprocess.run(command, shell=True, capture_output=True, text=True).stdout)
""",
    "grandchild": """
    code = ABOUT + "print(about())"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    print(subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True).stdout)
""",
    "fork": """
    child = os.fork()
    if child == 0:
        print(about(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
""",
    "spawn": """
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(*set(pool.map(about, range(4))))
""",
    "forkserver": """
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        print(*set(pool.map(about, range(4))))
""",
    "forking pool": """
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(*set(pool.map(about, range(4))))
""",
    "executor": """
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(*set(pool.map(about, range(4))))
""",
}
# A forked process shares its parent's memory, the MPI library in it included.
SHARES_MEMORY = ("fork", "forking pool")

PROGRAM = """\
{about}
import concurrent.futures, multiprocessing, subprocess
ABOUT = {about!r}
if __name__ == "__main__":
{way}
"""


@pytest.fixture
def small_runner(small, tmp_path) -> bundles.Runner:
    """Runs the small bundle."""
    (tmp_path / "node").mkdir()
    return bundles.runner(small, tmp_path / "node")


def written(tmp_path: Path, way: str) -> Path:
    """A program that starts a child in this way."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(about=ABOUT, way=WAYS[way]))
    return path


def await_end(runner: bundles.Runner) -> None:
    """The last one out removes the image; it may be a child that ends after its parent."""
    end = time.monotonic() + 5
    while runner.left() not in bundles.CLEAN:
        assert time.monotonic() < end, runner.left()
        time.sleep(0.05)


@pytest.mark.parametrize("way", WAYS)
def test_children_attach(way, small_runner, tmp_path):
    result = small_runner.run(written(tmp_path, way)).check()
    assert ast.literal_eval(result.stdout.strip()) == (True, False), str(result)
    assert not result.stderr, str(result)
    await_end(small_runner)


@pytest.mark.parametrize("way", WAYS)
def test_children_of_ranks_attach_without_mpi(way, python, wheel_mpi: Mpi, small_runner, tmp_path):
    program = written(tmp_path, way)
    result = small_runner.launch(wheel_mpi, 2, [program], env={"PYBUNDLE_MPI": "keep"}).check()
    lines = [ast.literal_eval(line) for line in result.stdout.split("\n") if line]
    modules, mpi = zip(*lines)
    assert modules == (True, True), str(result)
    # Executors fork up to 3.13.
    forks = way == "executor" and int(python.minor.partition(".")[2]) < 14
    if way not in SHARES_MEMORY and not forks:
        assert mpi == (False, False), str(result)
    await_end(small_runner)


@pytest.mark.parametrize("minor", pythons.MINORS)
def test_every_python_serves_its_children(minor, environment, tmp_path):
    python = pythons.pythons().get(minor)
    if python is None:
        pytest.skip(f"no CPython {minor} on this machine")
    (tmp_path / "node").mkdir()
    runner = bundles.runner(environment("small", python), tmp_path / "node")
    for way in ("subprocess", "spawn", "forkserver"):
        result = runner.run(written(tmp_path, way)).check()
        assert ast.literal_eval(result.stdout.strip()) == (True, False), str(result)


def test_other_pythons_are_left_alone(small_runner, environment, python):
    code = (
        "import sys; print(any('pybundle' in name for name in sys.modules), "
        "any('boot' in entry for entry in sys.path), sys.prefix)"
    )
    others = [found.executable for found in pythons.pythons().values()]
    # The same version, another environment.
    others.append(environment("core", python).python)
    for other in others:
        program = f"import subprocess; subprocess.run([{str(other)!r}, '-c', {code!r}])"
        said = small_runner.run("-c", program).check()
        assert said.stdout.startswith("False False "), str(said)
        assert "pybundle-" not in said.stdout, str(said)
        assert not said.stderr, str(said)


@pytest.mark.parametrize("option", ["-I", "-S", "-E"])
def test_options_that_leave_site_out_leave_us_out(option, small_runner):
    code = "import sys; print([name for name in sys.modules if 'pybundle' in name])"
    program = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, {option!r}, '-c', {code!r}], check=True)"
    )
    result = small_runner.run("-c", program).check()
    assert result.stdout == "[]\n"
    assert not result.stderr


def test_the_environments_own_sitecustomize_still_runs(small_runner, tmp_path):
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/sitecustomize.py").write_text("print('customised')\n")
    code = "import sys, plain; print(sys.modules['sitecustomize'].__file__)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    env = {"PYTHONPATH": str(tmp_path / "custom")}
    lines = small_runner.run("-c", program, env=env).check().stdout.splitlines()
    # The parent's own line is written at its end.
    assert sorted(lines) == [str(tmp_path / "custom/sitecustomize.py")] + ["customised"] * 2


@pytest.mark.parametrize("way", ["subprocess", "spawn"])
def test_a_bundle_packed_anew_disturbs_no_child(way, small_runner, tmp_path):
    bundle = tmp_path / "env.pybundle"
    shutil.copy(small_runner.bundle, bundle)
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, sys, subprocess, multiprocessing\nABOUT = {ABOUT!r}\n{ABOUT}\n"
        f"if __name__ == '__main__':\n"
        f"    os.rename({str(tmp_path / 'new')!r}, {str(bundle)!r})\n{WAYS[way]}"
    )
    (tmp_path / "new").write_bytes(b"another")
    runner = dataclasses.replace(small_runner, bundle=bundle)
    assert runner.run(program).check().stdout.strip() == "(True, False)"
    assert bundle.read_bytes() == b"another"


def test_a_child_finds_the_image_gone_and_runs_plainly(small_runner, tmp_path):
    program = (
        "import os, subprocess, sys\n"
        "env = dict(os.environ, PYBUNDLE_IMAGE='/absent/pybundle-0/image')\n"
        "code = 'import sys; print(sys.prefix)'\n"
        "subprocess.run([sys.executable, '-c', code], env=env, check=True)\n"
    )
    result = small_runner.run("-c", program).check()
    assert result.stdout.strip() == str(small_runner.python.parents[1])
    assert not result.stderr


def test_an_environment_of_its_own_sets_a_child_free(small_runner):
    program = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import sys; print(sys.prefix)'], env={})\n"
    )
    result = small_runner.run("-c", program).check()
    assert result.stdout.strip() == str(small_runner.python.parents[1])


def test_a_job_started_by_a_program_is_a_job(wheel_mpi: Mpi, small_runner, tmp_path):
    """mpiexec inside a rank: its ranks are no children, they join a job of their own."""
    inner = tmp_path / "inner.py"
    inner.write_text("import os, plain\nos.write(1, plain.__file__[:0].encode() + b'inner\\n')\n")
    words = [str(word) for word in [wheel_mpi.mpiexec, "-n", 2, *small_runner.words(inner)]]
    program = f"import subprocess; print(subprocess.run({words!r}, check=True).returncode)"
    result = small_runner.run("-c", program, env=wheel_mpi.environment()).check()
    assert sorted(result.stdout.split()) == ["0", "inner", "inner"]
    await_end(small_runner)
