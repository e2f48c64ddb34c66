"""Extension modules and libraries behave as those of plain files do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support import environments, installing
from support.bundles import Runner
from support.paths import ROOT
from support.process import clean_environment, run

SOURCE = ROOT / "tests" / "data" / "natives"

USE = """
import os, sys
if os.environ["FLAGS"] == "global":
    sys.setdlopenflags(sys.getdlopenflags() | os.RTLD_GLOBAL)
import natives
from natives import _first, _second
print("one library", _first.count(), _second.count(), natives.base())
print("caught", _first.caught(), _second.caught())
print("plug-ins", natives.plugins(), natives.answer())
print("limited", os.path.basename(_first.__file__))
"""

# Modules that are initialised in one step are not for sub-interpreters.
SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
number = interpreters.create()
code = '''
import sys
sys.path[:] = PATH
try:
    import plainly, natives
    from natives import _first
    print("imported", plainly.VALUE)
except ImportError as error:
    print(type(error).__name__, error)
'''
result = interpreters.run_string(number, code.replace("PATH", repr(sys.path)))
print("result", result)
"""


@pytest.fixture(scope="module")
def natives(each_python, tmp_path_factory) -> tuple[Runner, Path]:
    """An environment of C++ modules and its bundle."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    folder = tmp_path_factory.mktemp("natives")
    interpreter = installing.create(folder / "env", each_python)
    packages = folder / "env" / "lib" / f"python{each_python.minor}" / "site-packages"
    package = packages / "natives"
    shutil.copytree(SOURCE / "natives", package)
    (packages / "plainly.py").write_text("VALUE = 7\n")
    ask = "import sysconfig as s; print(s.get_path('include'), s.get_config_var('EXT_SUFFIX'))"
    include, suffix = run([interpreter, "-c", ask]).check().stdout.split()
    library, plugins = package / "lib", package / "plugins"
    library.mkdir()
    plugins.mkdir()
    compile = [compiler, "-O1", "-shared", "-fPIC", f"-I{include}", f"-I{SOURCE}", f"-L{library}"]

    def make(target: Path, *words: object) -> None:
        run([*compile, "-o", target, *words], timeout=120).check()

    make(library / "libbase.so.2.1", SOURCE / "base.cpp", "-Wl,-soname,libbase.so.2")
    (library / "libbase.so.2").symlink_to("libbase.so.2.1")
    (library / "libbase.so").symlink_to("libbase.so.2")
    here = ["-Wl,-rpath,$ORIGIN", "-Wl,-soname,libmiddle.so.1"]
    make(library / "libmiddle.so.1", SOURCE / "middle.cpp", "-lbase", *here)
    (library / "libmiddle.so").symlink_to("libmiddle.so.1")
    uses = [SOURCE / "module.cpp", "-lmiddle", "-lbase", "-Wl,-rpath,$ORIGIN/lib"]
    make(package / "_first.abi3.so", "-DFIRST", *uses)
    make(package / f"_second{suffix}", *uses)
    plugin = ["-o", plugins / "a.so", SOURCE / "plugin.c"]
    run([os.environ.get("CC", "cc"), "-shared", "-fPIC", *plugin], timeout=120).check()
    runner = environments.environment("runner", each_python)
    bundle = folder / "env.pybundle"
    run([runner.pybundle, "pack", folder / "env", "-o", bundle], timeout=120).check()
    (folder / "node").mkdir()
    return Runner(bundle, runner.python, folder / "node"), interpreter


@pytest.mark.parametrize("flags", ["local", "global"])
def test_modules_share_their_libraries(natives, flags):
    runner, interpreter = natives
    plain = run([interpreter, "-c", USE], env=clean_environment(FLAGS=flags)).check().stdout
    assert runner.run("-c", USE, env={"FLAGS": flags}).check().stdout == plain
    assert "one library 101 102 3\ncaught oops oops\n" in plain
    assert ("undefined symbol" in plain) == (flags == "local")


def test_subinterpreters_import_from_files(natives):
    """They have finders of their own, CPython's, and find real files; errors are CPython's."""
    runner, interpreter = natives
    plain = run([interpreter, "-c", SUBINTERPRETER], env=clean_environment()).check()
    ours = runner.run("-c", SUBINTERPRETER).check()
    assert ours.stdout == plain.stdout
    assert "imported 7" in plain.stdout or "does not support loading" in plain.stdout
