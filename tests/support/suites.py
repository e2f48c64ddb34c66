"""Test suites that others wrote, run on plain files and from a bundle, and what came of each test.

``cpython``  the interpreter's own package ``test``, copied into site-packages. The standard
             library, where it lies as well, comes earlier on ``sys.path``; ``PYTHONPATH`` names
             site-packages, so that ``import test`` finds the copy, on both sides alike.
``importlib``  importlib_metadata and importlib_resources with their suites; their sample packages
             lie in the environment: see tests/data/suites/packed_sites.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

from . import environments, installing
from .bundles import Runner
from .environments import Environment
from .paths import ROOT, TEST, digest, files_digest, made_once
from .process import Result, clean_environment, run
from .pythons import Python

DATA = ROOT / "tests" / "data" / "suites"
METADATA, RESOURCES = "importlib_metadata==8.5.0", "importlib_resources==6.5.2"
HELPERS = ("jaraco.test", "packaging", "pyfakefs", "pytest")
RESOURCES_MODULES = tuple(
    f"importlib_resources.tests.test_{name}"
    for name in (
        # The file's own spelling.
        *("compatibilty_files", "contents", "custom", "files", "functional", "open"),
        *("path", "read", "reader", "resource", "util"),
    )
)
METADATA_MODULES = (
    *("tests.test_api", "tests.test_integration", "tests.test_main", "tests.test_zip"),
    "tests.compat.test_py39_compat",
)

Outcomes = dict[str, str]


def cpython(python: Python) -> Environment:
    """An environment that holds the interpreter's own tests."""
    folder = TEST / "env" / f"cpython-{python.minor}"
    environment = Environment("cpython", python, folder)
    ask = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    answer = subprocess.run([python.executable, "-c", ask], capture_output=True, check=True)
    source = Path(answer.stdout.decode().strip()) / "test"

    def make(made: Path) -> None:
        installing.create(made, python)
        shutil.copytree(source, environment.packages / "test")

    made_once(folder, digest([str(python.executable)]), make)
    environments.install_pybundle(folder)
    return environment


def has_test(environment: Environment, module: str) -> bool:
    """Does this Python's suite have the module?"""
    path = environment.packages / "test" / module
    return path.is_dir() or path.with_suffix(".py").is_file()


def importlib(python: Python) -> Environment:
    """An environment that holds the backports of importlib's parts, their suites and samples."""
    folder = TEST / "env" / f"importlib-{python.minor}"
    environment = Environment("importlib", python, folder)

    def make(made: Path) -> None:
        interpreter = installing.create(made, python)
        installing.install(interpreter, (METADATA, RESOURCES, *HELPERS))
        shutil.copytree(_sdist(METADATA) / "tests", environment.packages / "tests")
        shutil.copytree(DATA / "packed_sites", environment.packages / "packed_sites")
        words = [interpreter, "-m", "packed_sites", "--write", made / "written.json"]
        run([*words, *METADATA_MODULES, *RESOURCES_MODULES], timeout=120).check()

    versions = [METADATA, RESOURCES, *HELPERS, str(python.executable)]
    made_once(folder, digest([*versions, files_digest(DATA.rglob("*.py"))]), make)
    environments.install_pybundle(folder)
    return environment


def _sdist(requirement: str) -> Path:
    """A package's source distribution: wheels rarely have the tests."""
    folder = TEST / "sdist" / requirement

    def make(made: Path) -> None:
        words = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        run([sys.executable, *words, "--dest", made, requirement], timeout=300).check()
        (archive,) = made.glob("*.tar.gz")
        shutil.unpack_archive(archive, made)

    (found,) = (path for path in made_once(folder, "", make).iterdir() if path.is_dir())
    return found


def cpython_outcomes(
    environment: Environment, runner: Runner | None, module: str, folder: Path, *more: str
) -> Outcomes:
    """Runs one module of the interpreter's suite by regrtest: from files, or by a runner."""
    folder.mkdir()
    report = folder / "report.xml"
    args = ["-m", "test", "-v", "--junit-xml", report, *more, module]
    # Tests of bytecode files need them written.
    variables = {"PYTHONPATH": str(environment.packages), "PYTHONDONTWRITEBYTECODE": None}
    result = _run(environment, runner, args, variables, folder)
    assert report.exists(), result
    outcomes = _read(report)
    # The report leaves out subtests and what goes wrong outside of tests.
    headings = re.findall(r"(?m)^(?:FAIL|ERROR): (\w+) \((.*?)\)", result.stdout + result.stderr)
    for method, place in headings:
        outcomes[place if place.endswith(f".{method}") else f"{place}.{method}"] = "failed"
    return outcomes


def pytest_outcomes(
    environment: Environment, runner: Runner | None, packages: tuple[str, ...], folder: Path
) -> Outcomes:
    """Lets pytest look for tests in packages and run them: from files, or by a runner."""
    folder.mkdir()
    report = folder / "report.xml"
    words = ["-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}", "--pyargs"]
    result = _run(environment, runner, [*words, *packages], {}, folder)
    assert report.exists(), result
    return _read(report)


def importlib_outcomes(
    environment: Environment, runner: Runner | None, modules: tuple[str, ...], folder: Path
) -> Outcomes:
    """Runs modules of the backports' suites: from files, or by a runner."""
    folder.mkdir()
    report = folder / "report.json"
    result = _run(environment, runner, ["-m", "packed_sites", report, *modules], {}, folder)
    assert report.exists(), result
    # Subtests are named after their parameters, some of which are functions.
    return {
        re.sub(r" at 0x[0-9a-f]+", "", name): outcome
        for name, outcome in json.loads(report.read_text()).items()
    }


def _read(report: Path) -> Outcomes:
    """What a report in JUnit's format says."""
    outcomes = {}
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {part.tag for part in case}
        failed = kinds & {"failure", "error"}
        outcome = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        outcomes[name] = outcome
    return outcomes


def _run(
    environment: Environment,
    runner: Runner | None,
    args: list[object],
    variables: dict[str, str | None],
    folder: Path,
) -> Result:
    if runner is None:
        words = [environment.python, *args]
        return run(words, env=clean_environment(**variables), cwd=folder, timeout=300)
    return runner.run(*args, env=variables, cwd=folder, timeout=300)
