"""Every Python once, every MPI at 1, 2, 4 and 8 ranks: pack, verify, run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import bundles
from support.mpis import Mpi
from support.process import run
from support.pythons import Python

PROGRAM = """
import sys, numpy, h5py, yaml, requests
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(numpy.arange(10).sum())
assert total == 45 * world.size
for module in (numpy, h5py, yaml, requests, sys.modules["mpi4py"]):
    assert "/pybundle-" in module.__file__, module.__file__
sys.stdout.write(f"{world.rank} of {world.size}\\n")
"""


def test_every_python(each_python: Python, environment, tmp_path: Path) -> None:
    core = environment("core", each_python)
    (tmp_path / "node").mkdir()
    runner = bundles.runner(core, tmp_path / "node")
    command = runner.python.parent / "pybundle"
    assert run([command, "verify", runner.bundle]).check().stdout.startswith("ok: ")
    shown = json.loads(run([command, "inspect", "--json", runner.bundle]).check().stdout)
    assert shown["manifest"]["python"]["version"].startswith(each_python.minor + ".")
    assert runner.run(
        "-c", PROGRAM.replace("from mpi4py import MPI", "MPI = None").split("world =")[0]
    ).check()


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_every_mpi(ranks: int, mpi: Mpi, python: Python, environment, tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    if mpi.mpi4py:
        runner = bundles.runner(environment("core", python), tmp_path / "node")
        program = PROGRAM
    else:
        runner = bundles.runner(environment("small", python), tmp_path / "node")
        program = "import fast, sys; sys.stdout.write('1\\n')"
    result = runner.launch(mpi, ranks, ["-c", program], timeout=120).check()
    assert len(result.stdout.splitlines()) == ranks, result
    assert runner.left() in bundles.CLEAN, runner.left()
