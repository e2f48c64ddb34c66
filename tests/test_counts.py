"""What a copied folder with a changed ``sys.path`` could not do: counts, not seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import bundles, counter
from support.bundles import Runner
from support.environments import W2, Environment
from support.mpis import Mpi
from support.process import clean_environment, run
from support.pythons import Python

# What a rank prints about the memory of the image's code, when all ranks have mapped it.
MEMORY = """
from mpi4py import MPI
import re, sys
MPI.COMM_WORLD.Barrier()
size = rss = pss = 0
ours = r"(\\S+ +){5}/\\S*pybundle-\\d+/\\S+/code$"
for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read()):
    if re.match(ours, part.partition("\\n")[0]):
        numbers = dict(re.findall(r"(?m)^(\\w+): +(\\d+) kB", part))
        size += int(numbers["Size"])
        rss += int(numbers["Rss"])
        pss += int(numbers["Pss"])
sys.stdout.write(f"memory {size} {rss} {pss}\\n")
sys.stdout.flush()
MPI.COMM_WORLD.Barrier()
"""


@pytest.fixture
def w2_runner(w2: Environment, tmp_path: Path) -> Runner:
    (tmp_path / "node").mkdir()
    return bundles.runner(w2, tmp_path / "node")


@pytest.fixture
def small_runner(small: Environment, tmp_path: Path) -> Runner:
    (tmp_path / "node").mkdir()
    return bundles.runner(small, tmp_path / "node")


def counted(
    runner: Runner, mpi: Mpi, ranks: int, program: Path, below: list[Path], report: Path
) -> list[counter.Process]:
    """A job under the counter: its ranks, told by the mark that the program sets."""
    words = [*counter.command(report, below, paths=True), mpi.mpiexec, "-n", ranks]
    env = mpi.environment(**runner.variables())
    run([*words, *runner.words(program)], env=env, timeout=120).check()
    processes = counter.parse(json.loads(report.read_text()))
    return [process for process in processes if process.marked("program")]


def test_ranks_leave_the_environment_alone(
    w2: Environment, w2_runner: Runner, wheel_mpi: Mpi, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"{counter.MARK}\nmark('program')\n{W2}\n")
    packages = w2_runner.python.parents[1] / f"lib/python{w2.base.minor}/site-packages"
    ours = f"{packages}/pybundle/"
    report = tmp_path / "counts.json"
    ranks = counted(w2_runner, wheel_mpi, 4, program, [w2.folder], report)
    assert len(ranks) == 4
    opened = []
    for process in ranks:
        phase = process.phase("program")
        assert phase.below == [0], [path for path in phase.paths if str(w2.folder) in path][:20]
        before = process.phases[0].opened
        opened.append([path for path in before if path.startswith(ours)])
    opened.sort(key=len)
    # Behind the finder, one rank of the node copies the extension into the image, for children.
    assert all(1 <= len(files) <= 4 for files in opened[:-1]), opened
    assert len(opened[-1]) <= 6, opened[-1]
    # The counter does see what plain Python does.
    env = clean_environment()
    plain = counter.count([w2.python, program], below=[w2.folder], env=env).with_phase("program")
    assert plain[0].phase("program").below[0] > 1000


def test_a_packed_standard_library_is_left_alone(
    each_python: Python, environment, tmp_path: Path
) -> None:
    """Tests of it, which are not packed, are still found."""
    small = environment("small", each_python)
    runner = environment("runner", each_python)
    bundle = tmp_path / "env.pybundle"
    run([runner.pybundle, "pack", small.folder, "-o", bundle], timeout=110).check()
    (tmp_path / "node").mkdir()
    served = Runner(bundle, runner.python, tmp_path / "node")
    program = tmp_path / "program.py"
    imports = "import asyncio.queues, email.mime.text, json.tool, sqlite3, unittest.mock, decimal"
    program.write_text(
        f"{counter.MARK}\nimport sys\n"
        f"mark('program')\n{imports}\nmark('end')\n"
        "print(json.tool.__file__)\n"
        "import importlib.util\nprint(importlib.util.find_spec('test') is not None)\n"
    )
    folder = f"lib/python{each_python.minor}"
    base = run([each_python.executable, "-c", "import os; print(os.path.dirname(os.__file__))"])
    below = [Path(base.check().stdout.strip())]
    env = clean_environment(**served.variables())
    ours = counter.count(served.words(program), below=below, env=env, paths=True)
    phase = ours.with_phase("program")[0].phase("program")
    assert phase.below == [0], phase.paths
    shown = ours.result.check().stdout.splitlines()
    assert f"/roots/1/{folder}/json/tool.py" in shown[0]
    plain = counter.count([small.python, program], below=below, env=clean_environment())
    assert plain.with_phase("program")[0].phase("program").below[0] > 100
    assert plain.result.check().stdout.splitlines()[1] == shown[1]


def test_a_module_costs_no_operation_anywhere(
    small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    # The first import reads the names in folders that aren't ours, the script's own among them.
    program.write_text(
        f"{counter.MARK}\nimport fast, math\n"
        "mark('program')\nimport plain, shapes.area.round\nmark('end')\n"
    )
    small_runner.run("--keep", "--all-files", "-c", "import fast").check()
    for process in counted(small_runner, wheel_mpi, 2, program, [], tmp_path / "counts.json"):
        phase = process.phase("program")
        assert phase.operations == 0, phase.paths
        assert not phase.opened


def test_no_python_function_of_ours_runs_during_an_import(
    small_runner: Runner, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nseen = []\n"
        "def profile(frame, event, argument):\n"
        "    seen.append((event, frame.f_code.co_filename, frame.f_code.co_name))\n"
        "sys.setprofile(profile)\nimport plain, shapes.area.round, fast\n"
        "sys.setprofile(None)\n"
        "files = {name for event, name, _ in seen if event == 'call'}\n"
        "assert any(name.endswith('shapes/__init__.py') for name in files), files\n"
        "ours = [name for name in files if '/pybundle/' in name]\n"
        "assert not ours, ours\n"
    )
    small_runner.run(program).check()


def test_code_is_not_read_from_sources(small_runner: Runner, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import plain, shapes.area.round, pathlib\nprint(pathlib.Path(plain.__file__).parents[3])\n"
    )
    first = small_runner.run("--keep", "--all-files", program).check()
    tree = Path(first.stdout.strip())
    sources = [path for path in tree.rglob("*.py") if not path.is_symlink()]
    assert len(sources) > 5
    for path in sources:
        path.parent.chmod(0o700)
        path.unlink()
        path.write_text("raise SystemExit('this file was read')\n")
    assert small_runner.run(program).check().stdout == first.stdout


def test_a_node_keeps_one_copy(w2_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(W2 + MEMORY)
    result = w2_runner.launch(wheel_mpi, 4, [program], timeout=120).check()
    rows = [line.split()[1:] for line in result.stdout.splitlines() if line.startswith("memory")]
    numbers = [[int(number) for number in row] for row in rows]
    assert len(numbers) == 4
    size, rss = (max(column) for column in list(zip(*numbers))[:2])
    shared = sum(row[2] for row in numbers)
    assert size > 20_000 and rss > 5_000, numbers
    # Four private copies would add up to four times what one rank has touched.
    assert shared < 1.2 * rss, numbers


def test_the_receipt_says_who_did_what(w2_runner: Runner, wheel_mpi: Mpi, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(W2)
    receipt = tmp_path / "receipt.json"
    w2_runner.launch(wheel_mpi, 4, ["--receipt", receipt, program], timeout=120).check()
    report = json.loads(receipt.read_text())
    size = w2_runner.bundle.stat().st_size
    # The plan reads the index, the transfer the whole file.
    assert size <= report["bytes_read"] <= 1.2 * size
    (node,) = report["nodes"]
    ranks = [rank["counts"] for rank in node["ranks"]]
    assert len(ranks) == 4
    decoded = [rank["load_bytes"] for rank in ranks]
    assert sum(decoded) > 50_000_000
    assert max(decoded) <= 0.4 * sum(decoded), decoded
    assert all(rank["modules_from_memory"] > 500 for rank in ranks)
    assert all(rank["fall_through"] == 0 for rank in ranks), node["ranks"]
    shown = run([w2_runner.python.parent / "pybundle", "receipt", receipt]).check().stdout
    assert report["bundle"]["identity"][:16] in shown and report["mpi"].split()[0] in shown
