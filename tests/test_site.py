"""Site integration: ``PYBUNDLE=FILE python app.py``, and nothing else is disturbed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support import built, counter, environments, installing
from support.environments import Environment
from support.mpis import Mpi
from support.process import Result, clean_environment, run

PROGRAM = """\
import os, sys, plain
from mpi4py import MPI
world = MPI.COMM_WORLD
here = plain.__file__.startswith(os.environ["PYBUNDLE_NODE_DIR"])
os.write(1, f"{here} {world.allreduce(1)}\\n".encode())
"""
WHERE = "import plain; print(plain.__file__.startswith('{node}'))"


@pytest.fixture(scope="module")
def site(tmp_path_factory, python) -> Environment:
    """An environment of its own with pybundle and site integration, and its bundle beside it."""
    folder = tmp_path_factory.mktemp("site") / "env"
    interpreter = installing.create(folder, python)
    installing.install(interpreter, ["mpi4py", built.wheel()])
    made = Environment("site", python, folder)
    (made.packages / "plain.py").write_text("NAME = 'plain'\n")
    # From 3.13 on `site` needs a codec for the first such file, whosever it is.
    (made.packages / "another.pth").write_text("# a comment\n")
    bundle = folder.with_suffix(".pybundle")
    run([made.pybundle, "pack", folder, "--level", "1", "-o", bundle], timeout=120).check()
    run([made.pybundle, "site", "install", folder]).check()
    return made


@pytest.fixture
def node(tmp_path) -> Path:
    """A folder for node images."""
    (tmp_path / "node").mkdir()
    return tmp_path / "node"


def variables(site: Environment, node: Path, **extra: str) -> dict[str, str]:
    """What a job script sets."""
    bundle = str(site.folder.with_suffix(".pybundle"))
    return {"PYBUNDLE": bundle, "PYBUNDLE_NODE_DIR": str(node), **extra}


def images(node: Path) -> list[str]:
    """Images on the node, awaited for a while: they go with the last one that holds them."""
    end = time.monotonic() + 5
    while True:
        left = [path.name for path in node.glob("pybundle-*/*") if path.is_dir()]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def plain(site: Environment, *words: object, **env: str) -> Result:
    """The environment's Python as a user starts it."""
    return run([site.python, *words], env=clean_environment(**env))


def test_without_the_variable_nothing_is_imported(site):
    code = "import sys; print([name for name in sys.modules if 'pybundle' in name], sys.prefix)"
    assert plain(site, "-c", code).check().stdout == f"[] {site.folder}\n"


def test_without_the_variable_it_costs_two_opens_at_most(site, fscount):
    def opened() -> int:
        counts = counter.count([site.python, "-c", "pass"], env=clean_environment())
        (process,) = counts.processes
        return sum(sum(phase.opened.values()) for phase in process.phases)

    with_hook = opened()
    run([site.pybundle, "site", "remove", site.folder]).check()
    try:
        without = opened()
    finally:
        run([site.pybundle, "site", "install", site.folder]).check()
    assert 1 <= with_hook - without <= 2


def test_without_the_variable_it_costs_a_fifth_of_a_millisecond_at_most(site):
    hook = site.packages / "pybundle.pth"
    code = f"""
import os, site, time
best = 1
for _ in range(50):
    begin = time.perf_counter()
    site.addpackage({str(hook.parent)!r}, {hook.name!r}, set())
    best = min(best, time.perf_counter() - begin)
print(best)
"""
    # A venv's Python reads the folder twice.
    assert 2 * float(plain(site, "-c", code).check().stdout) < 0.0002


def test_a_script_runs_from_the_bundle(site, node):
    code = WHERE.format(node=node)
    assert plain(site, "-c", code).check().stdout == "False\n"
    assert plain(site, "-c", code, **variables(site, node)).check().stdout == "True\n"
    disabled = variables(site, node, PYBUNDLE_DISABLE="1")
    assert plain(site, "-c", code, **disabled).check().stdout == "False\n"
    assert plain(site, "-I", "-c", code, **variables(site, node)).check().stdout == "False\n"
    assert not images(node)


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "1 / 0", "import os; os._exit(4)"])
def test_a_single_process_ends_as_ever(code, site, node):
    expected = plain(site, "-c", code)
    result = plain(site, "-c", code, **variables(site, node))
    assert (result.status, result.stderr) == (expected.status, expected.stderr)
    assert not images(node)


def test_an_interrupt_leaves_nothing(site, node):
    assert plain(site, "-c", "raise KeyboardInterrupt", **variables(site, node)).status == -2
    assert not images(node)


def test_a_job_script_stays_as_it_is(site, node, wheel_mpi: Mpi, tmp_path):
    program = tmp_path / "app.py"
    program.write_text(PROGRAM)
    env = variables(site, node, PYBUNDLE_RECEIPT=str(tmp_path / "receipt.json"))
    result = wheel_mpi.run(3, [site.python, program], env=env).check()
    assert result.stdout.splitlines() == ["True 3"] * 3
    assert (tmp_path / "receipt.json").exists()
    assert not images(node)


def test_modules_beside_the_script_come_from_root(site, node, wheel_mpi: Mpi, tmp_path):
    home = tmp_path / "home"
    (home / "package").mkdir(parents=True)
    (home / "beside.py").write_text("import package.inner\n")
    (home / "package" / "__init__.py").write_text("")
    (home / "package" / "inner.py").write_text("")
    (home / "app.py").write_text(
        f"{counter.MARK}\nmark('program')\nimport os, beside, plain\n"
        "try:\n    import absent\nexcept ImportError:\n    pass\n"
        "os.write(1, (beside.__file__ + '\\n').encode())\nmark('end')\n"
    )
    report = tmp_path / "counts.json"
    for cwd, program in ((tmp_path, [home / "app.py"]), (home, ["-m", "app"])):
        words = counter.command(report, [home], paths=True)
        env = variables(site, node)
        result = wheel_mpi.run(3, [site.python, *program], env=env, cwd=cwd, before=words).check()
        assert result.stdout.splitlines() == [str(home / "beside.py")] * 3
        ranks = [
            process.phase("program")
            for process in counter.parse(json.loads(report.read_text()))
            if process.marked("program")
        ]
        counts = sorted(phase.below[0] for phase in ranks)
        assert counts[:2] == [0, 0] and counts[2] > 0, [phase.paths for phase in ranks]
    assert not images(node)


def test_ranks_may_be_started_by_run_and_by_site_integration(site, node, wheel_mpi: Mpi, tmp_path):
    program = tmp_path / "app.py"
    program.write_text(PROGRAM + "import beside\n")
    (tmp_path / "beside.py").write_text("")
    words = [site.python, "-m", "pybundle", "run", program, ":", "-n", 1, site.python, program]
    result = wheel_mpi.run(1, words, env=variables(site, node), timeout=60).check()
    assert result.stdout.splitlines() == ["True 2"] * 2


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("raise ValueError('boom')", 1, "ValueError: boom"),
        ("raise SystemExit(7)", 7, ""),
        ("os._exit(7)", 7, ""),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
    ],
)
def test_a_failed_rank_ends_the_job(code, status, says, site, node, wheel_mpi: Mpi, tmp_path):
    program = tmp_path / "app.py"
    program.write_text(PROGRAM + f"if world.rank == 1:\n    {code}\nworld.barrier()\n")
    result = wheel_mpi.run(3, [site.python, program], env=variables(site, node))
    assert result.status == status, str(result)
    assert says in result.stderr
    assert result.seconds < 15, str(result)
    assert not images(node)


def test_a_missing_bundle_is_told_once(site, node, wheel_mpi: Mpi):
    env = {**variables(site, node), "PYBUNDLE": str(node / "absent")}
    for result in (
        wheel_mpi.run(3, [site.python, "-c", "print('ran')"], env=env),
        plain(site, "-c", "print('ran')", **env),
    ):
        result.check(1)
        assert result.stderr.count("error: ") == 1, str(result)
        assert "Traceback" not in result.stderr
        assert not result.stdout


def test_children_attach_and_never_join(site, node, wheel_mpi: Mpi, tmp_path):
    program = tmp_path / "app.py"
    program.write_text(
        "import os, subprocess, sys\n"
        f"code = {WHERE.format(node=node)!r} + "
        '\'; print(chr(108) + "ibmpi" in open("/proc/self/maps").read())\'\n'
        "out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n"
        "os.write(1, (' '.join((out.stdout + out.stderr).split()) + '\\n').encode())\n"
    )
    result = wheel_mpi.run(2, [site.python, program], env=variables(site, node)).check()
    assert result.stdout.splitlines() == ["True False"] * 2
    assert not images(node)


def test_only_the_first_python_of_a_wrapper_joins(site, node, wheel_mpi: Mpi, tmp_path):
    program = tmp_path / "app.py"
    program.write_text(PROGRAM)
    script = f"{site.python} -c 'import plain'; {site.python} {program}"
    result = wheel_mpi.run(3, ["sh", "-c", script], env=variables(site, node)).check()
    # The first one's image is gone when the last of them has ended.
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["3"] * 3
    assert result.stderr.count("an earlier Python of this rank has joined") == 1, str(result)
    assert not images(node)


def test_a_wrapper_that_goes_on_is_no_failure(site, node, wheel_mpi: Mpi):
    script = f"{site.python} -c 'import plain'; sleep ${{PMI_RANK:-$OMPI_COMM_WORLD_RANK}}; echo on"
    env = variables(site, node, PYBUNDLE_MPI="release")
    result = wheel_mpi.run(3, ["sh", "-c", script], env=env).check()
    assert result.stdout.splitlines() == ["on"] * 3
    assert not result.stderr, str(result)


def test_tools_are_not_disturbed(site, node):
    # The bundle isn't even looked at.
    env = {**variables(site, node), "PYBUNDLE": str(node / "absent")}
    installing_pip = plain(site, "-m", "ensurepip", **env)
    if installing_pip.status == 0:
        plain(site, "-m", "pip", "--version", **env).check()
    plain(site, "-m", "venv", "--without-pip", node / "venv", **env).check()
    plain(site, "-m", "pybundle", "site", "status", site.folder, **env).check()


def test_run_does_not_load_twice(site, node):
    words = ["-m", "pybundle", "run", "-c", WHERE.format(node=node)]
    assert plain(site, *words, **variables(site, node)).check().stdout == "True\n"


def test_install_status_remove(site, tmp_path):
    other = environments.environment("runner", site.base).copy(tmp_path / "env")
    # Its scripts name the original: the module is asked.
    module = [other.python, "-m", "pybundle", "site"]
    env = clean_environment()
    before = sorted(other.packages.iterdir())
    custom = other.packages / "sitecustomize.py"
    custom.write_text("print('customised')\n")
    # Debian's Python has one of its own, which it finds first.
    plainly = run([other.python, "-c", "pass"], env=env).check().stdout
    assert run([*module, "status", other.folder], env=env).check().stdout.count("not installed")
    for _ in range(2):
        run([*module, "install", other.folder], env=env).check()
        shown = run([*module, "status", other.folder], env=env).check().stdout
        assert shown.splitlines()[-1].startswith("installed: ")
    # What was there still runs, once.
    result = run([other.python, "-c", "pass"], env={**env, "PYBUNDLE": ""}).check()
    assert result.stdout == plainly
    custom.unlink()
    run([*module, "remove", other.folder], env=env).check()
    assert sorted(other.packages.iterdir()) == before
    assert run([*module, "remove", other.folder], env=env).check().stdout.count("not installed")


def test_a_sitecustomize_of_the_environment_runs_from_the_bundle(site, node):
    custom = node / "custom"
    custom.mkdir()
    (custom / "sitecustomize.py").write_text("import plain\nprint(plain.__file__)\n")
    env = variables(site, node, PYTHONPATH=str(custom))
    assert plain(site, "-c", "pass", **env).check().stdout.startswith(str(node / "pybundle-"))


def test_what_is_no_environment_is_refused(site, tmp_path):
    for action in ("install", "remove", "status"):
        result = run([site.pybundle, "site", action, tmp_path]).check(1)
        assert result.stderr.startswith("error: not a Python environment"), str(result)
        assert "\nhint: " in result.stderr
    without = tmp_path / "env"
    installing.create(without, site.base)
    result = run([site.pybundle, "site", "install", without]).check(1)
    assert result.stderr.startswith("error: pybundle is not installed in the environment")
    assert not list(without.rglob("pybundle.pth"))


def test_owner_and_mode_of_what_is_left(site, node, wheel_mpi: Mpi):
    script = f"{site.python} -c 'import plain'"
    wheel_mpi.run(2, ["sh", "-c", f"{script}; true"], env=variables(site, node)).check()
    folder = node / f"pybundle-{os.getuid()}"
    if folder.exists():
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_size < 4096 for path in folder.iterdir() if path.is_file())
