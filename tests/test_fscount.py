"""The counter: what it counts, whom it follows, and that strace agrees."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.counter import MARK
from support.mpis import Mpi
from support.process import clean_environment

# Threads, children with and without a program of their own, folders' descriptors, absent files.
PROGRAM = """
import os, subprocess, sys, threading
os.chdir(sys.argv[1])
open("file").close()
folder = os.open(sys.argv[1], os.O_RDONLY)
os.stat("file", dir_fd=folder)
os.listdir(folder)
def absent():
    for number in range(50):
        os.path.exists(f"/absent/{number}")
threads = [threading.Thread(target=absent) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
child = os.fork()
if child == 0:
    os.access(sys.argv[1] + "/../" + os.path.basename(sys.argv[1]) + "/file", os.R_OK)
    os._exit(0)
os.waitpid(child, 0)
subprocess.run([sys.executable, "-I", "-S", "-c", "import os; os.readlink('/proc/self/exe')"])
"""


def interpreter(python) -> list[object]:
    return [python.executable, "-I", "-S"]


@pytest.fixture
def program(tmp_path: Path) -> list[object]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    return [script, folder]


def test_operations_below_a_folder_are_counted_by_kind(count, python, program):
    folder = program[1]
    counts = count([*interpreter(python), *program], below=[folder])
    counts.result.check()
    parent, *children = counts.processes
    phase = parent.phase("")
    # chdir, open, open of the folder, stat, and two reads of its entries.
    assert phase.below == [6], phase.paths
    assert phase.opened[str(folder / "file")] == 1
    assert phase.calls["clone3"] + phase.calls["clone"] + phase.calls["vfork"] >= 5
    assert sum(path.startswith("/absent") for path in phase.paths) == 0
    forked = next(child for child in children if child.command == parent.command)
    assert forked.phase("").below == [1]
    assert forked.phase("").kinds["access"] == 1


def test_all_paths_are_named_when_asked(count, python, program):
    counts = count([*interpreter(python), *program], paths=True)
    phase = counts.processes[0].phase("")
    assert sum(n for path, n in phase.paths.items() if path.startswith("/absent/")) == 200
    assert sum(phase.paths.values()) == phase.operations
    started = counts.processes[-1]
    assert started.command[-1] == "import os; os.readlink('/proc/self/exe')"
    assert started.phase("").kinds["readlink"] >= 1


def test_marks_split_the_counts(count, python, tmp_path):
    script = MARK + f"mark('before'); open({str(tmp_path)!r} + '/x', 'w').close(); mark('after')"
    counts = count([*interpreter(python), "-c", script], below=[tmp_path], paths=True)
    (process,) = counts.with_phase("after")
    assert process.phase("before").below == [1]
    assert process.phase("before").operations == 1
    assert process.phase("after").below == [0]
    assert not [path for path in process.phase("").paths if "pybundle-mark" in path]


def test_the_status_is_the_programs(count):
    assert count(["/bin/sh", "-c", "exit 7"]).result.status == 7
    assert count(["/bin/sh", "-c", "kill -9 $$"]).result.status == 128 + 9
    assert count(["/no/such/program"]).result.status == 127


def test_signals_and_job_control_pass_through(count):
    script = "trap 'echo caught' USR1; kill -USR1 $$; (sleep 0.2; kill -CONT $$) & kill -STOP $$"
    counts = count(["/bin/sh", "-c", f"{script}; echo on"], timeout=20)
    assert counts.result.check().stdout == "caught\non\n"


def test_ranks_are_followed_below_a_launcher(count, python, wheel_mpi: Mpi, tmp_path):
    script = MARK + f"mark('work'); open({str(tmp_path / 'input')!r}).close()"
    (tmp_path / "input").touch()
    words = [wheel_mpi.mpiexec, "-n", 4, *interpreter(python), "-c", script]
    counts = count(words, below=[tmp_path], env=wheel_mpi.environment(), timeout=60)
    counts.result.check()
    ranks = counts.with_phase("work")
    assert [rank.phase("work").below for rank in ranks] == [[1]] * 4


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not on this machine")
def test_strace_agrees(count, run, python, program, tmp_path):
    env = clean_environment(LC_ALL="C")
    words = [*interpreter(python), *program]
    run(words, env=env).check()
    traced = tmp_path / "strace"
    calls = "%file,getdents64"
    run(["strace", "-f", "-qq", "-o", traced, "-e", f"trace={calls}", *words], env=env).check()
    expected: Counter[str] = Counter()
    for line in traced.read_text().splitlines():
        found = re.match(r"\d+ +(\w+)\(", line)
        if found:
            expected[found.group(1)] += 1
    counted: Counter[str] = Counter()
    for process in count(words, env=env).processes:
        for phase in process.phases:
            counted += Counter({name: n for name, n in phase.calls.items() if name in expected})
    # The working directory is asked for by getcwd, which names no path but is in strace's class.
    assert counted == expected
