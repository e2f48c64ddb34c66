"""`pybundle-python`: the Python in the bundle does what the environment's `python` does."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support import bundles, counter
from support.bundles import CLEAN, PackedRunner, Runner
from support.environments import W2, Environment
from support.process import Result, clean_environment, run
from support.programs import FORMS, SHOW, shown, write
from support.pythons import Python

STATE = """
import json, os, site, sys, sysconfig
flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[:1] != "_"}
for name in ("count", "index", "n_fields", "n_sequence_fields", "n_unnamed_fields"):
    flags.pop(name)
print(json.dumps({
    "flags": flags, "argv": sys.argv, "path": sys.path, "prefix": sys.prefix,
    "exec_prefix": sys.exec_prefix, "version": sys.version, "warnings": sys.warnoptions,
    "xoptions": sys._xoptions, "executable": os.path.basename(os.path.dirname(sys.executable)),
    "same": os.path.samefile(sys.base_prefix, os.path.dirname(os.path.dirname(
        os.path.realpath(sys.executable)))),
    "site": site.getsitepackages(), "user": site.ENABLE_USER_SITE,
    "purelib": sysconfig.get_path("purelib"), "stdlib": sysconfig.get_path("stdlib"),
    "encodings": [sys.stdout.encoding, sys.getfilesystemencoding()],
    "orig_argv": getattr(sys, "orig_argv", [])[1:],
    "modules": sorted(name for name in sys.modules if name.startswith(("json", "site", "enc"))),
}))
"""

OPTIONS: list[list[str]] = [
    [],
    ["-O"],
    ["-OO", "-B"],
    ["-I"],
    ["-S"],
    ["-I", "-S"],
    ["-E", "-s"],
    ["-X", "dev"],
    ["-Xutf8=1", "-u"],
    ["-W", "ignore:some.*text:UserWarning:module", "-bb"],
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder of programs."""
    return write(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def packed(small: Environment, tmp_path: Path) -> PackedRunner:
    """Runs the small bundle by its own Python."""
    (tmp_path / "node").mkdir()
    return bundles.packed_runner(small, tmp_path / "node")


@pytest.fixture
def each(each_python: Python, environment, tmp_path: Path) -> tuple[Environment, PackedRunner]:
    """The small environment of every Python, and its bundle run by that Python."""
    small = environment("small", each_python)
    (tmp_path / "node").mkdir()
    return small, bundles.packed_runner(small, tmp_path / "node")


def masked(text: str, environment: Environment) -> str:
    """A text in which neither the environment's folder nor the tree's is named, nor the base's."""
    text = re.sub(r"/[^\"' ]*/pybundle-[0-9]+/[^/\"' ]+/tree", "<env>", text)
    text = re.sub(r"<env>(/bin/\.\.)?/META-INF/pybundle/roots/\d+", "<base>", text)
    text = text.replace(str(environment.folder), "<env>")
    text = text.replace(str(environment.base.prefix), "<base>")
    return re.sub(r"/python3?(\.\d+)?(?=[:\"'])", "/python", text)


def both(
    environment: Environment, packed: Runner, words: list[str], **more: object
) -> tuple[Result, Result]:
    """The same by the environment's Python and by the bundle's."""
    stdin, cwd, env = more.get("stdin"), more.get("cwd"), more.get("env") or {}
    plain = run(
        [environment.python, *words], env=clean_environment(**env), cwd=cwd, stdin=stdin, timeout=60
    )
    return plain, packed.run(*words, cwd=cwd, stdin=stdin, env=env)


@pytest.mark.parametrize("form", FORMS)
def test_a_program_sees_what_python_shows_it(form, programs, small, packed):
    plain, ours = both(small, packed, FORMS[form], cwd=programs)
    expected = [masked(str(part), small) for part in shown(plain)]
    assert [masked(str(part), small) for part in shown(ours)] == expected
    assert packed.left() in CLEAN


def test_standard_input_is_a_program_too(programs, small, packed):
    for words in (["-", "a"], []):
        plain, ours = both(small, packed, words, cwd=programs, stdin=SHOW)
        assert masked(ours.check().stdout, small) == masked(plain.check().stdout, small)


@pytest.mark.timeout(300)
def test_options_mean_what_they_mean_to_python(each, tmp_path):
    small, packed = each
    script = tmp_path / "state.py"
    script.write_text(STATE)
    (tmp_path / "extra").mkdir()
    env = {"PYTHONPATH": str(tmp_path / "extra"), "PYTHONDONTWRITEBYTECODE": None}
    for options in OPTIONS:
        plain, ours = both(small, packed, [*options, str(script), "a"], env=env)
        expected = json.loads(masked(plain.check().stdout, small))
        got = json.loads(masked(ours.check().stdout, small))
        # Children find the bundle through this variable; the program doesn't see it on its path.
        assert got == expected, options
        assert ours.stderr == ""
    assert packed.left() in CLEAN


def test_the_standard_library_comes_from_the_bundle(each, tmp_path):
    small, packed = each
    program = tmp_path / "program.py"
    program.write_text(
        f"{counter.MARK}\nmark('program')\n"
        "import asyncio, ctypes, decimal, json, sqlite3, ssl, plain, shapes.area\n"
        "print(json.__file__, plain.__file__)\n"
    )
    below = [small.folder, *small.base.places]
    report = tmp_path / "counts.json"
    words = [*counter.command(report, below, paths=True), *packed.words(program)]
    result = run(words, env=clean_environment(**packed.variables()), timeout=60).check()
    assert all("/tree/" in path for path in result.stdout.split())
    (process,) = (
        process
        for process in counter.parse(json.loads(report.read_text()))
        if process.marked("program")
    )
    # Not even before the program: the interpreter itself comes from the node. The time of
    # one folder tells whether the environment has changed.
    looked_at = {
        path
        for phase in process.phases
        for path in phase.paths
        if any(Path(path).is_relative_to(place) for place in below)
    }
    assert looked_at == {str(small.packages)}
    # Its names are read too where it is newer than the bundle.
    assert 1 <= sum(sum(phase.below) for phase in process.phases) <= 4
    assert not any(process.phase("program").below)


def test_children_run_from_the_node_image(each, tmp_path):
    _, packed = each
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, os, subprocess, sys\n"
        "def where(_):\n"
        "    import json, plain\n"
        "    return [type(m.__loader__).__name__ for m in (json, plain)]\n"
        "if __name__ == '__main__':\n"
        "    for way in 'fork', 'spawn', 'forkserver':\n"
        "        with multiprocessing.get_context(way).Pool(1) as pool:\n"
        "            print(way, pool.map(where, [0]))\n"
        "    ask = 'import json, plain; print(type(json.__loader__).__name__, plain.__file__)'\n"
        "    for options in [], ['-I'], ['-E', '-s']:\n"
        "        words = [sys.executable, *options, '-c', ask]\n"
        "        done = subprocess.run(words, capture_output=True, text=True, check=True)\n"
        "        print(done.stdout, done.stderr)\n"
    )
    result = packed.run(program).check()
    ways = ("fork", "spawn", "forkserver")
    expected = [f"{way} [['SourceLoader', 'SourceLoader']]" for way in ways]
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert lines[:3] == expected
    assert len(lines) == 6
    for line in lines[3:]:
        assert line.startswith("SourceLoader ") and "/tree/" in line
    assert result.stderr == ""
    assert packed.left() in CLEAN


@pytest.mark.mpi
def test_ranks_start_from_the_bundle(w2: Environment, wheel_mpi, tmp_path):
    (tmp_path / "node").mkdir()
    packed = bundles.packed_runner(w2, tmp_path / "node")
    (tmp_path / "program").mkdir()
    program = tmp_path / "program" / "program.py"
    program.with_name("beside.py").write_text("NAME = 'beside'\n")
    program.write_text(
        f"{counter.MARK}\nmark('program')\n{W2}\nimport beside\nfrom mpi4py import MPI\n"
        "total = MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank)\n"
        "import sys\nsys.stdout.write(f'total {total}\\n')\n"
    )
    foreign = [w2.folder, *w2.base.places]
    below = [*foreign, packed.bundle, program.parent]
    report = tmp_path / "counts.json"
    words = [*counter.command(report, below, paths=True), wheel_mpi.mpiexec, "-n", 4]
    env = wheel_mpi.environment(**packed.variables())
    result = run(
        [*words, *packed.words(program)], env=env, cwd=w2.base.prefix.parent, timeout=110
    ).check()
    assert result.stdout.count("total 6\n") == 4
    ranks = [
        process
        for process in counter.parse(json.loads(report.read_text()))
        if process.marked("program")
    ]
    assert len(ranks) == 4
    touched = []
    for process in ranks:
        assert not any(process.phase("program").below[: len(foreign)])
        paths = {path for phase in process.phases for path in phase.paths}
        touched.append({path for path in paths for place in below if path.startswith(f"{place}")})
    # Root alone knows the bundle and the program's folder; what it asks of a server whose answers
    # it keeps is less than twenty things.
    touched.sort(key=len)
    assert touched[:3] == [set(), set(), set()]
    assert 2 < len(touched[3]) < 20, touched[3]
    # The time of one folder tells whether the environment has changed.
    of_others = [Path(path) for path in touched[3]]
    of_others = [path for path in of_others if any(map(path.is_relative_to, foreign))]
    assert of_others == [w2.packages]
    assert packed.left() in CLEAN


@pytest.mark.mpi
def test_a_failing_rank_ends_the_job(wheel_mpi, packed, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\n"
        "rank = int(os.environ.get('PMI_RANK') or os.environ['OMPI_COMM_WORLD_RANK'])\n"
        "if rank == 1:\n    sys.exit(7)\n"
        "time.sleep(50)\n"
    )
    env = {"PYBUNDLE_MPI": "keep"}
    result = packed.launch(wheel_mpi, 3, [program], env=env, timeout=45)
    assert result.status == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_signals_end_it_as_they_end_python(number, small, packed, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "finally:\n    print('finally', flush=True)\n"
    )
    endings = []
    for words, env in (
        ([small.python, program], {}),
        (packed.words(program), packed.variables()),
    ):
        process = subprocess.Popen(
            list(map(str, words)),
            env={k: v for k, v in clean_environment(**env).items() if v is not None},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Who starts the tests in the background ignores interrupts, and children inherit that.
            preexec_fn=functools.partial(signal.signal, number, signal.SIG_DFL),
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        endings.append((first, out, process.returncode, err.splitlines()[-1:]))
    assert endings[1] == endings[0]
    if number == signal.SIGINT:
        assert packed.left() in CLEAN


def test_packages_of_the_base_are_found(python, environment, tmp_path):
    folder, bundle = tmp_path / "env", tmp_path / "env.pybundle"
    words = ["-m", "venv", "--system-site-packages", "--without-pip", folder]
    run([python.executable, *words]).check()
    runner = environment("runner", python)
    run([runner.pybundle, "pack", folder, "--level", "1", "-o", bundle], timeout=100).check()
    (tmp_path / "node").mkdir()
    ask = (
        "import pkgutil, sys; site = [path for path in sys.path if path.endswith('-packages')]\n"
        "print(sorted({module.name for module in pkgutil.iter_modules(site)} - {'pybundle'}))"
    )
    for way in (PackedRunner, Runner):
        ours = way(bundle, runner.python, tmp_path / "node")
        plain, ours = both(Environment("open", python, folder), ours, ["-c", ask])
        if plain.check().stdout == "[]\n":
            pytest.skip("this Python has no packages of its own")
        assert ours.check().stdout == plain.check().stdout


def test_a_bundle_without_an_interpreter_is_refused(small, packed, tmp_path):
    bundle = tmp_path / "without.pybundle"
    packer = packed.python.with_name("pybundle")
    run([packer, "pack", "--no-stdlib", small.folder, "-o", bundle], timeout=60).check()
    without = PackedRunner(bundle, packed.python, packed.node_dir)
    result = without.run("-c", "print('ran')")
    assert (result.status, result.stdout) == (1, "")
    assert "the bundle holds no Python" in result.stderr
    assert "--no-stdlib" in result.stderr
    assert without.left() in CLEAN


def test_a_pythonhome_of_another_python_is_left_alone(packed, tmp_path):
    env = {"PYTHONHOME": str(tmp_path)}
    result = packed.run("-c", "import json; print(json.__file__)", env=env).check()
    assert "/tree/" in result.stdout
    assert "PYTHONHOME" in result.stderr


def test_questions_and_mistakes(packed, tmp_path):
    assert packed.run("-V").check().stdout.startswith("Python 3.")
    assert packed.run("--help").check().stdout.startswith("usage: pybundle-python")
    result = packed.run("--nonsense")
    assert result.status == 2 and "--nonsense" in result.stderr
    absent = PackedRunner(tmp_path / "absent.pybundle", packed.python, packed.node_dir)
    result = absent.run("-c", "pass")
    assert result.status == 1 and "absent.pybundle" in result.stderr
    assert result.stderr.count("error:") == 1
    broken = tmp_path / "broken.pybundle"
    broken.write_bytes(packed.bundle.read_bytes()[:-100_000])
    result = PackedRunner(broken, packed.python, packed.node_dir).run("-c", "print('ran')")
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr.startswith("error:")
    assert packed.left() in CLEAN


@pytest.mark.mpi
def test_mistakes_of_all_ranks_are_said_once(packed, wheel_mpi):
    program = packed.python.with_name("pybundle-python")
    module = [packed.python, "-m", "pybundle", "run"]
    for words, env, says in (
        ([program, "-c", "pass"], {}, "no bundle is named"),
        ([program, "--nonsense"], {}, "--nonsense"),
        ([*module, "--nonsense"], {}, "--nonsense"),
        ([*module, "-c", "pass"], {"PYBUNDLE_MPI": "perhaps"}, "PYBUNDLE_MPI"),
    ):
        result = wheel_mpi.run(3, words, env=packed.variables(env), timeout=40)
        assert result.status != 0
        assert result.stderr.count("error:") == 1 and says in result.stderr, result


def test_an_installation_that_is_broken_leaves_nothing_behind(packed, tmp_path):
    # A folder that was copied to the node, without its extension module's content.
    (tmp_path / "copy" / "bin").mkdir(parents=True)
    (tmp_path / "copy" / "pybundle").mkdir()
    program = tmp_path / "copy" / "bin" / "pybundle-python"
    program.write_bytes(packed.python.with_name("pybundle-python").read_bytes())
    program.chmod(0o755)
    words = [program, "--bundle", packed.bundle, "-c", "print('ran')"]
    env = clean_environment(**packed.variables())
    without = run(words, env=env, timeout=60)
    assert without.status == 1 and "keep the folder `pybundle`" in without.stderr
    (tmp_path / "copy" / "pybundle" / "_native.abi3.so").write_text("nothing")
    broken = run(words, env=env, timeout=60)
    assert (broken.status, broken.stdout) == (1, "")
    assert "ImportError" in broken.stderr
    assert packed.left() in CLEAN


def test_two_jobs_share_an_image(packed, tmp_path):
    bundles.settle(packed.bundle)
    words = packed.words("--keep", "-c", "import json, time; time.sleep(1); print(json.__file__)")
    env = {k: v for k, v in clean_environment(**packed.variables()).items() if v is not None}
    jobs = [
        subprocess.Popen(list(map(str, words)), env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    shown = {job.communicate(timeout=60)[0] for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(shown) == 1
    # What is there is not read again.
    receipt = tmp_path / "receipt.json"
    third = packed.run("--receipt", receipt, "-c", "import json; print(json.__file__)").check()
    assert third.stdout in shown
    assert json.loads(receipt.read_text())["bytes_read"] == 0


def test_a_bundle_that_had_just_been_written_is_known_later(packed, tmp_path):
    bundle = tmp_path / "env.pybundle"
    shutil.copyfile(packed.bundle, bundle)
    fresh = dataclasses.replace(packed, bundle=bundle)
    fresh.run("--keep", "-c", "pass").check()
    bundles.settle(bundle)
    receipts = [tmp_path / "first.json", tmp_path / "second.json"]
    for receipt in receipts:
        fresh.run("--receipt", receipt, "-c", "pass").check()
    first, second = (json.loads(receipt.read_text())["bytes_read"] for receipt in receipts)
    assert first > second == 0
