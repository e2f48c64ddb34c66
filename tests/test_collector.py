"""The garbage collector: postponed while imports go on, spared at the end, a program's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest
from support import bundles, pythons
from support.bundles import Runner
from support.environments import Environment
from support.process import clean_environment, run
from support.pythons import Python

KEEP = {"PYBUNDLE_GC": "keep"}

# A cycle with something that tells when it is gone, and enough new objects for a collection.
LEAVE = """
import gc, time, weakref

class Cycle:
    def __init__(self):
        self.own = self

def leave():
    return weakref.ref(Cycle())

def make(count):
    return [[] for _ in range(count)]
"""


@pytest.fixture
def core(
    environment: Callable[[str, Python], Environment], each_python: Python, tmp_path: Path
) -> Runner:
    """Runs numpy, h5py, mpi4py, by each Python."""
    return bundles.runner(environment("core", each_python), tmp_path / "node")


@pytest.fixture
def small_runner(small: Environment, tmp_path: Path) -> Runner:
    return bundles.runner(small, tmp_path / "node")


def said(runner: Runner, code: str, **more: object) -> list[str]:
    """What a program prints."""
    return runner.run("-c", code, **more).check().stdout.split()


def test_collections_wait_while_imports_go_on(core):
    code = f"{LEAVE}\nleft = leave()\nkept = make(50000)\nprint(left() is None)"
    assert said(core, code) == ["False"]
    assert said(core, code, env=KEEP) == ["True"]


def test_they_go_on_two_seconds_after_the_last_import(core):
    code = f"{LEAVE}\ntime.sleep(2.1)\nleft = leave()\nkept = make(50000)\nprint(left() is None)"
    assert said(core, code) == ["True"]


def test_an_import_that_never_ends_keeps_its_collector(core, tmp_path):
    # More than a gigabyte of garbage, made by a module's own code.
    (tmp_path / "busy.py").write_text(
        "import resource\n\nclass Cycle:\n    def __init__(self):\n        self.own = self\n"
        "        self.data = bytes(4096)\n\n"
        "for _ in range(300000):\n    Cycle()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)\n"
    )
    (mebibytes,) = said(core, f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import busy")
    assert int(mebibytes) < 600


def test_many_small_objects_end_it_too(small_runner):
    code = f"{LEAVE}\nleft = leave()\nkept = make(3000000)\nprint(left() is None)"
    assert said(small_runner, code) == ["True"]


@pytest.mark.parametrize(
    "call", ["gc.collect()", "gc.set_threshold(500)\nkept = make(50000)", "gc.collect(0)"]
)
def test_a_program_collects_when_it_likes(core, call):
    assert said(core, f"{LEAVE}\nleft = leave()\n{call}\nprint(left() is None)") == ["True"]


def test_the_settings_of_gc_are_those_of_plain_python(core, each_python, environment):
    code = "import gc; print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage)"
    plain = run([environment("core", each_python).python, "-c", code]).check().stdout
    assert plain == core.run("-c", code).check().stdout


def test_what_a_program_freezes_stays_frozen(core):
    code = f"{LEAVE}\ngc.freeze()\nbefore = gc.get_freeze_count()\nkept = make(50000)\n"
    assert said(core, f"{code}print(0 < gc.get_freeze_count() <= before)") == ["True"]


def test_forked_children_and_threads_collect_as_before(core):
    code = f"""{LEAVE}
import os, threading
def work():
    time.sleep(3)
    left = leave()
    kept = make(50000)
    return left() is None and gc.get_freeze_count() < 1000
def child():
    os._exit(0 if work() else 1)
pid = os.fork()
pid or child()
found = []
thread = threading.Thread(target=lambda: found.append(work()))
thread.start()
import json, email.message, xml.dom.minidom
thread.join()
print(*found, os.waitpid(pid, 0)[1])
"""
    assert said(core, code) == ["True", "0"]


def test_a_python_that_was_told_to_warn_collects_as_ever(small_runner):
    code = f"{LEAVE}\nleft = leave()\nkept = make(50000)\nprint(left() is None)"
    for options, expected in (
        (["-W", "error"], "True"),
        (["-X", "dev"], "True"),
        (["-Wi"], "False"),
    ):
        head, *tail = small_runner.words("-c", code)
        env = clean_environment(**small_runner.variables())
        assert run([head, *options, *tail], env=env).check().stdout.split() == [expected], options


def test_finalisers_of_a_collection_are_all_called(small_runner):
    code = f"""{LEAVE}
def cycle(name):
    weakref.finalize(Cycle(), print, name)
for name in "abc":
    cycle(name)
    kept = make(10000)
gc.collect()
"""
    # Objects set aside and given back come before older ones.
    assert sorted(said(small_runner, code)) == ["a", "b", "c"]
    assert said(small_runner, code, env=KEEP) == sorted(said(small_runner, code, env=KEEP))


# Programs that leave something to finalisers; each is a module, so that its globals are in cycles
# with its functions when the interpreter ends.
ENDINGS = {
    "a file that was never closed": "file = open('out', 'w')\nfile.write('text')\n",
    "a file of a class": "class Log:\n    file = open('out', 'w')\nLog.file.write('text')\n",
    "a binary file": "file = open('out', 'wb')\nfile.write(b'text')\n",
    "a file in a tuple": "class Log:\n    files = ((1, open('out', 'w')),)\n"
    "Log.files[0][1].write('text')\n",
    "a temporary file": "import tempfile\nfile = tempfile.NamedTemporaryFile(dir='.')\n",
    "__del__": "class Last:\n    def __init__(self):\n        self.own = self\n"
    "    def __del__(self):\n        print('gone')\nlast = Last()\n",
    "__del__ of a base": "class Base:\n    def __del__(self):\n        print('gone')\n"
    "class Last(Base, dict):\n    pass\nlast = Last()\nlast['own'] = last\n",
    "__del__ set later": "class Last(list):\n    pass\nlast = Last()\nlast.append(last)\n"
    "Last.__del__ = lambda self: print('gone')\n",
    "__del__ of a base in C": "class Base:\n    __slots__ = ()\n    def __del__(self):\n"
    "        print('gone')\nclass Last(Base, list):\n    pass\nlast = Last()\nlast.append(last)\n",
    "a metaclass that makes attributes": "class Meta(type):\n    def __getattr__(cls, name):\n"
    "        print('asked', name)\n        raise AttributeError(name)\n"
    "class Thing(metaclass=Meta):\n    pass\nthing = Thing()\n",
    "a generator": "def wait():\n    try:\n        yield\n    finally:\n        print('closed')\n"
    "waiting = wait()\nnext(waiting)\n",
    "a context that is open": "import contextlib\n@contextlib.contextmanager\ndef manage():\n"
    "    yield\n    print('never')\n    \nmanager = manage()\nmanager.__enter__()\n"
    "stack = contextlib.ExitStack()\nstack.callback(print, 'never')\n",
    "a coroutine": "async def wait():\n    pass\nwaiting = wait()\n",
    "an executor": "import concurrent.futures as f\npool = f.ThreadPoolExecutor(2)\n"
    "print(pool.submit(int, '7').result())\n",
    "a pool": "import multiprocessing\npool = multiprocessing.get_context('fork').Pool(1)\n"
    "print(pool.map(int, '12'))\n",
    "finalize": "import weakref\nclass Thing:\n    pass\nthing = Thing()\n"
    "weakref.finalize(thing, print, 'finalised')\n",
    "atexit": "import atexit\natexit.register(print, 'at the end')\n",
    "a file opened by atexit": "import atexit\nclass Log:\n    pass\ndef last():\n"
    "    Log.file = open('out', 'w')\n    Log.file.write('text')\natexit.register(last)\n",
    "a database": "import sqlite3\nclass Data:\n    base = sqlite3.connect('base')\n"
    "Data.base.execute('create table t (a)')\nData.base.execute('insert into t values (1)')\n"
    "Data.base.commit()\n",
    "an HDF5 file": "import h5py\nclass Data:\n    file = h5py.File('out.h5', 'w')\n"
    "Data.file['x'] = [1, 2, 3]\n",
    "a shelf": "import shelve\nclass Data:\n    shelf = shelve.open('shelf')\n"
    "Data.shelf['a'] = 1\n",
    "a compressed file": "import bz2\nclass Data:\n    file = bz2.open('out.bz2', 'wb')\n"
    "Data.file.write(b'text')\n",
    "an archive": "import tarfile\nclass Data:\n    file = tarfile.open('out.tar', 'w')\n",
    "output of its own": "import sys, io\n"
    "sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False))\nprint('text')\n",
}


MAIN = pythons.main_python().minor
EACH = [
    pytest.param(minor, marks=[pytest.mark.slow] if minor != MAIN else [])
    for minor in pythons.MINORS
]


@pytest.mark.parametrize("each_python", EACH, indirect=True)
@pytest.mark.parametrize("what", ENDINGS)
@pytest.mark.parametrize("options", [[], ["-X", "dev"]], ids=["", "dev"])
def test_what_finalisers_do_is_done(environment, core, each_python, tmp_path, what, options):
    outcomes = []
    for way in ("plain", "ours"):
        folder = tmp_path / way
        folder.mkdir()
        (folder / "ending.py").write_text(f"{ENDINGS[what]}\ndef function():\n    pass\n")
        (folder / "app.py").write_text("import ending\nprint('begun', flush=True)\n")
        words = [environment("core", each_python).python, *options]
        env = clean_environment(**core.variables())
        if way == "ours":
            words += core.words()[1:]
        result = run([*words, "app.py"], cwd=folder, env=env)
        files = {
            path.name: path.read_bytes()
            for path in folder.iterdir()
            if path.is_file() and path.suffix != ".h5"
        }
        if (folder / "out.h5").exists():
            show = "import h5py; print(h5py.File('out.h5')['x'][:])"
            files["out.h5"] = run([words[0], "-c", show], cwd=folder).check().stdout.encode()
        errors = result.stderr.replace(str(folder), "FOLDER")
        errors = re.sub(r"\S+/lib/python3", "BASE/lib/python3", errors)
        errors = re.sub(r"tmp\w{8}|0x[0-9a-f]+", "RANDOM", errors)
        # Which is finalised first, the file or who would close it, is chance.
        errors = "" if what == "a temporary file" else errors
        outcomes.append((result.status, result.stdout, errors, files))
    assert outcomes[0] == outcomes[1]


NOTICED = """
import os, sys, weakref
import {modules}

class Cycle:
    def __init__(self):
        self.own = self

cycle = Cycle()
sys.noticed = weakref.ref(cycle, lambda gone: os.write(1, b'collected'))
"""


@pytest.mark.parametrize("modules", ["json", "numpy, h5py, yaml, requests"])
def test_the_last_collections_are_left_out(core, modules):
    # Not even a weak reference's callback may be waited for: the one thing that differs.
    code = NOTICED.format(modules=modules)
    result = core.run("-c", f"{code}\ndel cycle", env={"PYBUNDLE_LOG": "1"}).check()
    assert result.stdout == "", result.stderr
    assert core.run("-c", f"{code}\ndel cycle", env=KEEP).check().stdout == "collected"


@pytest.mark.mpi
def test_they_are_left_out_on_every_rank(environment, python, wheel_mpi, tmp_path):
    runner = bundles.runner(environment("core", python), tmp_path / "node")
    code = NOTICED.format(modules="numpy, mpi4py.MPI") + "\ndel cycle"
    assert runner.launch(wheel_mpi, 2, ["-c", code]).check().stdout == ""
    kept = runner.launch(wheel_mpi, 2, ["-c", code], env=KEEP).check().stdout
    assert kept == 2 * "collected"


def test_who_is_in_the_way_is_logged(small_runner):
    code = "class Last:\n    def __del__(self):\n        pass\nlast = Last()"
    result = small_runner.run("-c", code, env={"PYBUNDLE_LOG": "1"}).check()
    assert "pybundle: the last collections run: there is a `__main__.Last`\n" in result.stderr
