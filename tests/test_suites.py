"""CPython's own tests of imports, and those of importlib's backports, give from a bundle what they
give from files.

Each module of a suite runs twice; any test with another outcome is a failure here, except those in
``KNOWN``, which must differ. Tests that fail on both sides are none of ours: most of them expect
the package ``test`` to lie in the standard library.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import bundles, suites
from support.bundles import Runner
from support.environments import Environment
from support.pythons import Python
from support.suites import Outcomes

# Test, and why its outcome differs.
KNOWN = {
    "test.test_subprocess.POSIXProcessTestCase.test_pass_fds_redirected": (
        "a Python child of the program attaches to the node image, which takes one descriptor"
    ),
}

QUICK = ("test_import", "test_module", "test_pkgutil", "test_runpy")
EVERY_PYTHON = (
    *QUICK,
    "test_importlib",
    "test_modulefinder",
    "test_multiprocessing_main_handling",
    "test_pkg",
    "test_threaded_import",
    "test_zipimport",
    "test_zipimport_support",
)
MAIN_PYTHON = (
    "test_cmd_line_script",
    "test_compileall",
    "test_doctest",
    "test_inspect",
    "test_linecache",
    "test_pickle",
    "test_pyclbr",
    "test_site",
    "test_subprocess",
    "test_sysconfig",
    "test_traceback",
    "test_unittest",
    "test_warnings",
)
# Of the tests of multiprocessing, which take many minutes: processes, queues, what children import.
MULTIPROCESSING = (
    "test_multiprocessing_fork",
    "test_multiprocessing_forkserver",
    "test_multiprocessing_spawn",
)
SMOKE = ("WithProcessesTestProcess", "WithProcessesTestQueue", "_TestImportStar", "TestStartMethod")


def served(environment: Environment, folder: Path, own: bool = False) -> Runner:
    """Runs the environment's bundle, by its own interpreter or by one that has pybundle alone."""
    folder.mkdir()
    if own:
        return Runner(bundles.bundle(environment), environment.python, folder)
    return bundles.runner(environment, folder)


def compare(plain: Outcomes, bundle: Outcomes) -> None:
    """Fail for each test with another outcome, and for each that should have one."""
    assert "passed" in plain.values(), plain
    different = {
        name: f"{plain.get(name)} on plain files, {bundle.get(name)} from the bundle"
        for name in sorted({*plain, *bundle})
        if plain.get(name) != bundle.get(name)
    }
    known = {name for name in KNOWN if plain.get(name) == "passed"}
    assert not {name: what for name, what in different.items() if name not in known}
    assert known <= set(different), "no longer different: take it out of KNOWN"


def cpython(module: str, python: Python, folder: Path, *more: str, own: bool = False) -> None:
    """Compare one module of the interpreter's own tests."""
    environment = suites.cpython(python)
    if not suites.has_test(environment, module):
        pytest.skip(f"CPython {python.minor} has no {module} here")
    runner = served(environment, folder / "node", own)
    # It is the copy that is tested, and it is served by us.
    ask = "import test; print(type(test.__loader__).__name__)"
    variables = {"PYTHONPATH": str(environment.packages)}
    assert runner.run("-c", ask, env=variables).check().stdout == "SourceLoader\n"
    plain = suites.cpython_outcomes(environment, None, module, folder / "plain", *more)
    bundle = suites.cpython_outcomes(environment, runner, module, folder / "bundle", *more)
    compare(plain, bundle)


def backport(modules: tuple[str, ...], python: Python, folder: Path, own: bool = False) -> None:
    """Compare the suite of one of importlib's backports."""
    environment = suites.importlib(python)
    runner = served(environment, folder / "node", own)
    plain = suites.importlib_outcomes(environment, None, modules, folder / "plain")
    bundle = suites.importlib_outcomes(environment, runner, modules, folder / "bundle")
    assert "failed" not in plain.values(), plain
    compare(plain, bundle)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", QUICK)
def test_cpython_quick(module, python, tmp_path):
    cpython(module, python, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", EVERY_PYTHON)
def test_cpython(module, each_python, tmp_path):
    cpython(module, each_python, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", MAIN_PYTHON)
def test_cpython_more(module, python, tmp_path):
    cpython(module, python, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", EVERY_PYTHON)
def test_cpython_by_own_interpreter(module, python, tmp_path):
    cpython(module, python, tmp_path, own=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", MULTIPROCESSING)
def test_cpython_multiprocessing(module, each_python, tmp_path):
    more = [word for name in SMOKE for word in ("-m", name)]
    cpython(module, each_python, tmp_path, *more)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("own", [False, True], ids=["empty", "own"])
def test_importlib_metadata_quick(python, own, tmp_path):
    backport(suites.METADATA_MODULES, python, tmp_path, own)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("own", [False, True], ids=["empty", "own"])
def test_importlib_resources_quick(python, own, tmp_path):
    backport(suites.RESOURCES_MODULES, python, tmp_path, own)


@pytest.mark.timeout(600)
def test_pytest_finds_packed_tests(python, tmp_path):
    environment = suites.importlib(python)
    runner = served(environment, tmp_path / "node")
    packages = ("importlib_resources.tests", "tests")
    plain = suites.pytest_outcomes(environment, None, packages, tmp_path / "plain")
    compare(plain, suites.pytest_outcomes(environment, runner, packages, tmp_path / "bundle"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_importlib_metadata(each_python, tmp_path):
    backport(suites.METADATA_MODULES, each_python, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_importlib_resources(each_python, tmp_path):
    backport(suites.RESOURCES_MODULES, each_python, tmp_path)
