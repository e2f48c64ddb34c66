"""What programs do with MPI, and how they end, under every kind of ``mpiexec``."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from support import bundles, mpis, slow
from support.bundles import CLEAN
from support.mpis import Mpi
from support.process import run

RANKS = 3

# Every launcher says the rank in one of these, so that programs need not start MPI to know it.
RANK = """\
import os
rank = int(os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"])
"""

# One write a line: launchers mix what comes in pieces.
SAY = """\
import os
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


@dataclass
class Case:
    """A program of three ranks, and how it ends."""

    program: str
    says: dict[str, int] = field(default_factory=dict)
    status: int = 0
    within: float = 15
    modes: tuple[str, ...] = ("keep", "release")
    errors: tuple[str, ...] = ()


def mpi4py(program: str, *args: object, **keywords: object) -> Case:
    """A program that uses MPI itself, and therefore keeps it."""
    return Case(program, *args, **{"modes": ("keep",), **keywords})


CASES = {
    # Programs that end well.
    "without MPI": Case("say('done')", {"done": 3}),
    "exits with 0": Case("say('done'); raise SystemExit(0)", {"done": 3}),
    "MPI after us": mpi4py(
        "from mpi4py import MPI\nsay('sum', MPI.COMM_WORLD.allreduce(1))", {"sum 3": 3}
    ),
    "initialises twice": mpi4py(
        "import mpi4py\nmpi4py.rc.initialize = False\nfrom mpi4py import MPI\n"
        "MPI.Init()\nsay('sum', MPI.COMM_WORLD.allreduce(1))",
        {"sum 3": 3},
    ),
    "initialises twice, with threads, and finalises": mpi4py(
        "import mpi4py\nmpi4py.rc(initialize=False, finalize=False)\nfrom mpi4py import MPI\n"
        "say('level', MPI.Init_thread(MPI.THREAD_MULTIPLE) == MPI.Query_thread())\n"
        "MPI.COMM_WORLD.barrier()\nMPI.Finalize()",
        {"level True": 3},
    ),
    "initialises from C": mpi4py(
        "import ctypes\nlibrary = ctypes.CDLL(None)\n"
        "say('init', library.MPI_Init(None, None))\n"
        "say('finalize', library.MPI_Finalize())",
        {"init 0": 3, "finalize 0": 3},
    ),
    "settings of mpi4py": mpi4py(
        "import mpi4py\nmpi4py.rc(threads=False, recv_mprobe=False)\nfrom mpi4py import MPI\n"
        "say('sum', MPI.COMM_WORLD.allreduce(1))",
        {"sum 3": 3},
    ),
    "leaves the end of MPI to others": mpi4py(
        "import mpi4py\nmpi4py.rc.finalize = False\nfrom mpi4py import MPI\n"
        "say('sum', MPI.COMM_WORLD.allreduce(1))",
        {"sum 3": 3},
    ),
    "finalises": mpi4py(
        "from mpi4py import MPI\nMPI.COMM_WORLD.barrier()\nMPI.Finalize()\nsay('done')",
        {"done": 3},
    ),
    "needs MPI at module teardown": mpi4py(
        "from mpi4py import MPI\n\n\nclass Holder:\n    def __init__(self):\n"
        "        self.comm = MPI.COMM_WORLD.Dup()\n\n    def __del__(self, say=say):\n"
        "        self.comm.Free()\n        say('freed')\n\n\nholder = Holder()",
        {"freed": 3},
    ),
    "needs MPI in exit functions": mpi4py(
        "import atexit\nfrom mpi4py import MPI\n"
        "atexit.register(lambda: say('sum', MPI.COMM_WORLD.allreduce(1)))",
        {"sum 3": 3},
    ),
    # Ranks that leave early.
    "one leaves by _exit": Case(
        "import time\nif rank == 1:\n    os._exit(0)\ntime.sleep(1)\nsay('done')", {"done": 2}
    ),
    "one leaves by C's exit": Case(
        "import ctypes, time\nif rank == 1:\n    ctypes.CDLL(None).exit(0)\n"
        "time.sleep(1)\nsay('done')",
        {"done": 2},
    ),
    "one becomes another program": Case(
        "import time\nif rank == 1:\n    os.execvp('sh', ['sh', '-c', 'sleep 1; echo became'])\n"
        "time.sleep(2)\nsay('done')",
        {"done": 2, "became": 1},
    ),
    "two become other programs": Case(
        "import time\nif rank != 1:\n    os.execvp('sh', ['sh', '-c', 'echo became'])\n"
        "time.sleep(1)\nsay('done')",
        {"done": 1, "became": 2},
    ),
    "exec fails": Case(
        "for path in ('/absent', '/etc/passwd', '/tmp'):\n    try:\n"
        "        os.execv(path, ['x'])\n    except OSError:\n        say('failed')\nsay('done')",
        {"failed": 9, "done": 3},
    ),
    "all become Python and use MPI": Case(
        "import sys\n"
        "code = 'from mpi4py import MPI; import os; '\n"
        "code += 'os.write(1, b\"sum %d\\\\n\" % MPI.COMM_WORLD.allreduce(1))'\n"
        "os.execv(sys.executable, [sys.executable, '-c', code])",
        {"sum 3": 3},
    ),
    # Children.
    "forks": Case(
        "for leave in (lambda: os._exit(3), lambda: exec('raise SystemExit(3)'),\n"
        "              lambda: os.execvp('sh', ['sh', '-c', 'exit 3'])):\n"
        "    child = os.fork()\n    if child == 0:\n        leave()\n"
        "    say('child', os.WEXITSTATUS(os.waitpid(child, 0)[1]))",
        {"child 3": 9},
    ),
    "a forked child fails": Case(
        "child = os.fork()\nif child == 0:\n    1 / 0\n"
        "say('child', os.WEXITSTATUS(os.waitpid(child, 0)[1]))",
        {"child 1": 3},
        errors=("ZeroDivisionError",),
    ),
    "a child runs a bundle": Case(
        "import subprocess, sys\n"
        "words = [sys.executable, '-m', 'pybundle', 'run', '-c', 'print(41 + 1)']\n"
        "env = dict(os.environ, PYBUNDLE=os.environ['TEST_BUNDLE'])\n"
        "say(subprocess.run(words, env=env, capture_output=True, text=True).stdout)",
        {"42": 3},
    ),
    # One rank fails: the others would work on for ever.
    "one raises": Case(
        "import time\nif rank == 1:\n    raise ValueError('boom')\ntime.sleep(60)",
        status=1,
        errors=("ValueError: boom",),
    ),
    "one raises in a collective": mpi4py(
        "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise ValueError('boom')\n"
        "MPI.COMM_WORLD.barrier()",
        status=1,
        errors=("ValueError: boom",),
    ),
    "one exits with 7": Case(
        "import time\nprint('x' * 100_000)\nif rank == 1:\n    raise SystemExit(7)\ntime.sleep(60)",
        status=7,
    ),
    "one exits with a text": Case(
        "import time\nif rank == 1:\n    raise SystemExit('told')\ntime.sleep(60)",
        status=1,
        errors=("told",),
    ),
    "one leaves by _exit(7)": Case(
        "import time\nif rank == 1:\n    os._exit(7)\ntime.sleep(60)", status=7
    ),
    "one leaves by C's exit(7)": Case(
        "import ctypes, time\nif rank == 1:\n    ctypes.CDLL(None).exit(7)\ntime.sleep(60)",
        status=7,
    ),
    "one is interrupted": Case(
        "import time\nif rank == 1:\n    raise KeyboardInterrupt\ntime.sleep(60)",
        status=130,
        errors=("KeyboardInterrupt",),
    ),
    "exit functions wait for others": mpi4py(
        "import atexit\nfrom mpi4py import MPI\natexit.register(MPI.COMM_WORLD.barrier)\n"
        "if MPI.COMM_WORLD.rank == 1:\n    raise ValueError('boom')\nMPI.COMM_WORLD.recv(source=1)",
        status=1,
        errors=("ValueError: boom", "the job is aborted"),
    ),
    "all fail": Case("raise SystemExit(7)", status=7),
}


@pytest.fixture
def core_runner(environment, python, tmp_path) -> bundles.Runner:
    """Runs a bundle that holds mpi4py, numpy and h5py."""
    (tmp_path / "node").mkdir()
    return bundles.runner(environment("core", python), tmp_path / "node")


def await_nothing(runner: bundles.Runner) -> list[str]:
    """What is left on the node, when all that a job has left behind has ended."""
    end = time.monotonic() + 5
    while runner.left() not in CLEAN and time.monotonic() < end:
        time.sleep(0.05)
    return runner.left()


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, case in CASES.items() for mode in case.modes]
)
def test_a_job_ends_as_it_should(name, mode, wheel_mpi: Mpi, core_runner, tmp_path):
    case = CASES[name]
    program = tmp_path / "program.py"
    program.write_text(SAY + RANK + case.program + "\n")
    env = {"PYBUNDLE_MPI": mode, "TEST_BUNDLE": str(core_runner.bundle)}
    result = core_runner.launch(wheel_mpi, RANKS, [program], env=env)
    assert result.status == case.status, str(result)
    said = Counter(line for line in result.stdout.splitlines())
    for text, times in case.says.items():
        assert said[text] == times, str(result)
    for text in case.errors:
        assert text in result.stderr, str(result)
    if not case.errors:
        assert "Traceback" not in result.stderr, str(result)
    if case.status == 0:
        # Both MPIs tell of processes that left them without a word.
        assert "improperly" not in result.stderr, str(result)
        assert "BAD TERMINATION" not in result.stdout + result.stderr, str(result)
    assert result.seconds < case.within, str(result)
    # The one who removes the image of a job that failed may still be at it.
    assert await_nothing(core_runner) in CLEAN


def test_mpi_is_kept_where_somebody_may_want_it(wheel_mpi, core_runner, small, tmp_path):
    ask = (
        "import ctypes, os\nflag = ctypes.c_int()\nctypes.CDLL(None).MPI_Finalized("
        "ctypes.byref(flag))\nos.write(1, b'finalised %d\\n' % flag.value)\n"
    )
    program = tmp_path / "program.py"

    def finalised(runner: bundles.Runner, text: str, **env: str) -> set[str]:
        program.write_text(text + ask)
        lines = runner.launch(wheel_mpi, 2, [program], env=env).check().stdout.splitlines()
        assert len(lines) == 2
        return set(lines)

    plain = bundles.runner(small, tmp_path / "node")
    # The bundle holds modules that are linked against MPI.
    assert finalised(core_runner, "") == {"finalised 0"}
    assert finalised(core_runner, "", PYBUNDLE_MPI="release") == {"finalised 1"}
    # It doesn't, and nor does the program name mpi4py.
    assert finalised(plain, "") == {"finalised 1"}
    assert finalised(plain, "# mpi4py\n") == {"finalised 0"}
    assert finalised(plain, "", PYBUNDLE_MPI="keep") == {"finalised 0"}


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("say('sum', MPI.COMM_WORLD.allreduce(1))", 0, ["sum 3"] * 3),
        ("MPI.Finalize()\nsay('done')", 0, ["done"] * 3),
        ("import sys\nif MPI.COMM_WORLD.rank == 1: sys.exit(7)\nMPI.COMM_WORLD.barrier()", 7, []),
    ],
)
def test_mpi_before_us_is_the_programs_own(
    code, status, says, wheel_mpi, core_runner, environment, python, tmp_path
):
    (tmp_path / "first").mkdir()
    (tmp_path / "first/sitecustomize.py").write_text("from mpi4py import MPI\n")
    program = tmp_path / "program.py"
    program.write_text(SAY + "from mpi4py import MPI\n" + code)
    runner = dataclasses.replace(core_runner, python=environment("core", python).python)
    env = {"PYTHONPATH": str(tmp_path / "first")}
    result = runner.launch(wheel_mpi, 3, [program], env=env).check(status)
    assert result.stdout.splitlines() == says
    assert await_nothing(runner) in CLEAN


def test_off_starts_no_mpi(wheel_mpi, core_runner):
    code = (
        "import os, sys, numpy\nmaps = open('/proc/self/maps').read()\n"
        "os.write(1, b'mpi %d %d\\n' % ('libmpi' in maps, sys.prefix in numpy.__file__))"
    )
    result = core_runner.launch(wheel_mpi, 2, ["-c", code], env={"PYBUNDLE_MPI": "off"}).check()
    assert result.stdout.splitlines() == ["mpi 0 1"] * 2
    assert core_runner.left() in CLEAN


def test_without_a_launcher_no_mpi_is_loaded(core_runner):
    code = "import numpy; print('libmpi' in open('/proc/self/maps').read())"
    assert core_runner.run("-c", code).check().stdout == "False\n"


def test_ranks_sleep_while_root_reads(wheel_mpi, core_runner):
    try:
        slow.check()
    except slow.Unavailable as missing:
        pytest.skip(str(missing))
    # Each time that a rank looks whether something has come it gives up the processor by itself.
    code = f"""{SAY}
import resource
rank = os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]
say(rank, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
"""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    # A decoding thread on each core naps too, as long as there is something to decode.
    words = ["taskset", "-c", cores, wheel_mpi.mpiexec, "-n", 2, *core_runner.words("-c", code)]
    env = wheel_mpi.environment(**core_runner.variables())
    looks = {}
    for rate in (4096, 15):
        started = slow.start(words, [core_runner.bundle.parent], env=env, service=0, rate=rate)
        lines = (line.split() for line in started.result.check().stdout.splitlines())
        looks[rate] = dict(lines)["1"], started.result.seconds
    (quick, least), (late, most) = looks.values()
    assert most - least > 1, looks
    # A thousand times a second would be the transport's pace.
    assert int(late) - int(quick) < 100 * (most - least), looks


def test_one_rank_is_a_job_too(wheel_mpi, core_runner):
    code = "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"
    assert core_runner.launch(wheel_mpi, 1, ["-c", code]).check().stdout == "1\n"


def test_root_reads_standard_input_for_all(wheel_mpi, core_runner, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SAY + "say('ran', __file__)\n")
    words = [wheel_mpi.mpiexec, "-n", "2", *core_runner.words("-")]
    script = f"exec {' '.join(map(str, words))} < {program}"
    env = core_runner.variables({"PYBUNDLE_TIMEOUT": "10"})
    result = wheel_mpi.run(2, [], env=env, before=["sh", "-c", script])
    if "waiting for the program's text" in result.stderr:
        # Does the launcher end what it passes on? That of Open MPI 5 may not (openpmix/prrte#2373).
        script = f"exec timeout 10 {wheel_mpi.mpiexec} -n 2 cat < {program}"
        if wheel_mpi.run(2, [], env=env, before=["sh", "-c", script]).status == 124:
            pytest.skip(f"{wheel_mpi.name}'s mpiexec does not pass on the end of standard input")
    assert result.check().stdout.splitlines() == ["ran <stdin>"] * 2


def test_ranks_may_run_different_programs(wheel_mpi, core_runner, tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(
            SAY + f"from mpi4py import MPI\nsay('{name}', MPI.COMM_WORLD.size)\n"
        )
    words = core_runner.words(tmp_path / "first.py")
    words += [":", "-n", 1, *core_runner.words(tmp_path / "second.py")]
    result = wheel_mpi.run(1, words, env=core_runner.variables()).check()
    assert sorted(result.stdout.splitlines()) == ["first 2", "second 2"]


@pytest.mark.parametrize("starts_mpi", [False, True])
def test_a_job_with_another_program_is_a_named_error(
    starts_mpi, wheel_mpi, core_runner, environment, python
):
    # An interpreter of an environment that has mpi4py, without a bundle.
    core = environment("core", python).python
    use = "from mpi4py import MPI; " if starts_mpi else ""
    words = core_runner.words("-c", "print('ran')")
    words += [":", "-n", 1, core, "-c", f"{use}import time; time.sleep(60)"]
    env = core_runner.variables({"PYBUNDLE_TIMEOUT": "3"})
    result = wheel_mpi.run(2, words, env=env)
    assert result.status != 0
    assert "ran" not in result.stdout
    assert result.stderr.count("another program in the same mpiexec?") == 1
    assert result.seconds < 20, str(result)


@pytest.mark.parametrize("command", ["module", "program"])
def test_a_program_that_cannot_start_beside_another_says_so(
    command, wheel_mpi, core_runner, environment, python
):
    # Rank 0 runs something else, and waits in MPI_Init for those that never come.
    other = [environment("core", python).python, "-c", "from mpi4py import MPI"]
    ours = {
        "module": [core_runner.python, "-m", "pybundle", "run"],
        "program": [core_runner.python.parent / "pybundle-python"],
    }
    for said, word, setting in (
        ("--bundle", "--bundle", None),
        ("PYBUNDLE_TIMEOUT", "program.py", "soon"),
    ):
        env = core_runner.variables({"PYBUNDLE_TIMEOUT": setting})
        result = wheel_mpi.run(1, [*other, ":", "-n", 2, *ours[command], word], env=env)
        assert result.status != 0
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
        assert said in line
        assert result.seconds < 20, str(result)


def test_a_failure_is_told_once_and_ends_all_ranks(wheel_mpi, core_runner, tmp_path):
    for text, bundle in (("No such file", tmp_path / "absent"), ("not a pybundle", __file__)):
        words = [core_runner.python, "-m", "pybundle", "run", "--bundle", bundle, "-c", "print(1)"]
        result = wheel_mpi.run(RANKS, words, env=core_runner.variables()).check(1)
        assert result.stderr.count("error: ") == 1, str(result)
        assert text in result.stderr, str(result)
        assert "Traceback" not in result.stderr
        assert "MPI_ABORT" not in result.stderr
        assert not result.stdout
    assert core_runner.left() in CLEAN


def test_a_job_without_its_transport_is_a_named_error(wheel_mpi, core_runner, tmp_path):
    package = next(core_runner.python.parents[1].glob("lib/python*/site-packages/pybundle"))
    for path in package.iterdir():
        if path.name not in (f"_mpi_{wheel_mpi.flavour}.so", "__pycache__", "_mpi_src"):
            (tmp_path / "path/pybundle").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "path/pybundle")
    env = core_runner.variables({"PYTHONPATH": str(tmp_path / "path")})
    result = wheel_mpi.run(2, core_runner.words("-c", "print('ran')"), env=env).check(1)
    assert result.stderr.count("error: ") == 1, str(result)
    assert "no MPI transport for" in result.stderr
    assert "\nhint: " in result.stderr and "pybundle mpi add MPICC" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("flavour", "variables"),
    [
        ("mpich", {"PMI_SIZE": "2", "PMI_RANK": "0"}),
        ("mpich", {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}),
        ("openmpi", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}),
    ],
)
def test_a_single_rank_under_another_launcher_is_a_named_error(flavour, variables, core_runner):
    mpi = mpis.find(flavour)
    env = mpi.environment(**core_runner.variables(variables))
    result = run(core_runner.words("-c", "print('ran')"), env=env).check(1)
    assert "sees a single rank, but the launcher has set `" in result.stderr
    assert "\nhint: " in result.stderr
    assert not result.stdout


def test_a_bundle_for_another_mpi_is_a_named_error(
    environment, python, wheel_mpi, tmp_path, core_runner
):
    """mpi4py with the variant for the other MPI alone."""
    core = environment("core", python).copy(tmp_path / "core")
    other = next(name for name in mpis.WHEELS if name != wheel_mpi.flavour)
    for path in core.packages.glob(f"mpi4py/MPI.{wheel_mpi.flavour}.*.so"):
        path.unlink()
    made = tmp_path / "other.pybundle"
    command = core_runner.python.parent / "pybundle"
    run([command, "pack", core.folder, "--level", "1", "-o", made], timeout=120).check()
    runner = dataclasses.replace(core_runner, bundle=made)
    result = runner.launch(wheel_mpi, 3, ["-c", "print('ran')"]).check(1)
    assert result.stderr.count("error: ") == 1, str(result)
    expected = {"mpich": "libmpi.so.12", "openmpi": "libmpi.so.40"}
    assert f"expected `{expected[other]}`" in result.stderr, str(result)
    assert expected[wheel_mpi.flavour] in result.stderr.partition("got ")[2], str(result)
    assert "\nhint: " in result.stderr
    assert not result.stdout
    assert runner.left() in CLEAN
