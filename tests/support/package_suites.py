"""Packages' own tests, run on plain files and from a bundle."""

from __future__ import annotations

import functools
import shutil
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import bundles
from .environments import Environment
from .packages import fallen_through
from .paths import TEST, made_once
from .process import clean_environment, run


@dataclass(frozen=True)
class Suite:
    """A part of a package's own tests: of imports, files, pickles, subprocesses, caches."""

    name: str
    modules: tuple[str, ...] = ()
    """Packages and modules of tests, as the wheel has them."""
    files: tuple[str, ...] = ()
    """Files and folders of the source distribution, for a wheel without tests."""
    keyword: str = ""
    """What pytest's ``-k`` selects."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What it runs."""
        return (*self.modules, *(f"{self.name}/{file}" for file in self.files))


SUITES = (
    Suite("numpy", ("numpy.tests", "numpy._core.tests.test_regression", "numpy.lib.tests")),
    Suite("networkx", ("networkx.classes", "networkx.drawing", "networkx.readwrite")),
    Suite("jinja2", files=("tests",)),
    Suite("scipy", ("scipy._lib.tests", "scipy.io", "scipy.constants", "scipy.datasets")),
    Suite(
        "pandas",
        (
            "pandas.tests.api",
            "pandas.tests.config",
            "pandas.tests.io.json",
            "pandas.tests.plotting.test_backend",
            "pandas.tests.test_downstream",
            "pandas.tests.util",
        ),
    ),
    Suite(
        "matplotlib",
        tuple(
            f"matplotlib.tests.test_{name}"
            for name in (
                *("api", "backend_registry", "basic", "cbook", "dates", "determinism"),
                *("doc", "font_manager", "getattr", "matplotlib", "pickle", "preprocess_data"),
                *("pyplot", "rcparams", "style", "testing", "texmanager", "ticker", "units"),
            )
        ),
    ),
    Suite("h5py", ("h5py.tests",)),
    Suite(
        "numba",
        ("numba.tests.test_caching", "numba.tests.test_entrypoints", "numba.tests.test_import"),
    ),
    Suite("sympy", ("sympy.external", "sympy.parsing", "sympy.testing", "sympy.plotting")),
    Suite("sklearn", ("sklearn.datasets", "sklearn.tests.test_init", "sklearn.tests.test_base")),
    Suite("certifi", ("certifi.tests",)),
    # One test is named by the path of pytest, which isn't the same in a bundle.
    Suite("requests", files=("tests",), keyword="not test_requests and not paths_unchanged"),
    Suite("lxml", files=("src/lxml/tests",)),
    Suite("pydantic", files=("tests",), keyword="plugin or pickle or import or json_schema"),
    Suite("cryptography", files=("tests",), keyword="x509 or fernet or utils"),
    Suite("pyarrow", tuple(f"pyarrow.tests.test_{name}" for name in ("misc", "json", "cffi"))),
    Suite(
        "xarray",
        tuple(
            f"xarray.tests.test_{name}"
            for name in ("plugins", "backends_api", "formatting_html", "options", "utils")
        ),
    ),
    Suite("dask", tuple(f"dask.tests.test_{name}" for name in ("config", "cli", "delayed"))),
    Suite("setuptools", files=("setuptools/tests",), keyword="not install and not editable"),
    # Some start children with a PYTHONPATH of their own: these don't find the bundle. One hangs on
    # a busy machine, on plain files as often: in the end of a pool of multiprocessing's.
    Suite(
        "joblib",
        ("joblib.test",),
        keyword="not child_raises_parent and not same_object and not memmap_sent_to_parent"
        " and not error_capture",
    ),
    Suite("dill", ("dill.tests",)),
    Suite("tornado", ("tornado.test",)),
    Suite("jsonschema", ("jsonschema.tests",)),
)

# Those of the environment ``tested``, in less than a minute together.
SMALL = (
    Suite("numpy", ("numpy.tests.test_ctypeslib", "numpy.tests.test_reloading")),
    Suite("networkx", ("networkx.readwrite.tests", "networkx.utils.tests")),
    Suite("jinja2", files=("tests",)),
)


@dataclass
class Outcome:
    """What a suite's tests did both ways."""

    suite: Suite
    plain: Counter[str] = field(default_factory=Counter)
    packed: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    fell_through: list[str] = field(default_factory=list)


def compare(suite: Suite, environment: Environment, folder: Path, node_dir: Path) -> Outcome:
    """Run a suite both ways; a test that differs in two plain runs as well isn't counted."""
    outcome = Outcome(suite)
    plain = _plain(suite, environment, folder / "plain")
    assert "passed" in plain.values(), f"no test of {suite.name} passes on plain files"
    runner = bundles.runner(environment, node_dir)
    receipt = folder / "receipt.json"
    # Test runners list folders to find tests, so they must be there before one is imported.
    words = runner.words("--all-files", "-m", "pytest")
    env = runner.variables({"PYBUNDLE_RECEIPT": str(receipt)})
    packed = _pytest(suite, environment, words, env, folder / "packed")
    outcome.fell_through = fallen_through(receipt)
    different = {test for test in {*plain, *packed} if plain.get(test) != packed.get(test)}
    if different:
        again = _plain(suite, environment, folder / "again")
        different = {test for test in different if plain.get(test) == again.get(test)}
    outcome.plain, outcome.packed = Counter(plain.values()), Counter(packed.values())
    outcome.differences = [
        f"{test}: {plain.get(test, 'absent')} -> {packed.get(test, 'absent')}"
        for test in sorted(different)
    ]
    return outcome


def _plain(suite: Suite, environment: Environment, folder: Path) -> dict[str, str]:
    return _pytest(suite, environment, [environment.python, "-m", "pytest"], {}, folder)


def _pytest(
    suite: Suite,
    environment: Environment,
    words: list[object],
    env: dict[str, str | None],
    folder: Path,
) -> dict[str, str]:
    """Each test with its outcome."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    report = folder / "report.xml"
    # For the pytest that tests start in turn, too: it would find the settings of our own tests.
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\n")
    always = f"-c {settings} -p no:cacheprovider"
    options: list[object] = ["-q", "--junitxml", report, "--basetemp", folder / "tmp"]
    options.append("--continue-on-collection-errors")
    options += ["-k", suite.keyword] if suite.keyword else []
    for file in suite.files:
        # A copy: beside the package's own sources they would be tested, not what is installed.
        part = folder / Path(file).name
        shutil.copytree(sources(suite.name, environment) / file, part)
        options.append(part)
    if suite.modules:
        options += ["--pyargs", *suite.modules]
    home = {"HOME": str(folder / "home"), "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}
    variables = clean_environment(**{**home, "PYTEST_ADDOPTS": always, **env})
    result = run([*words, *options], env=variables, cwd=folder, timeout=900)
    assert report.exists(), str(result)
    return {
        f"{case.get('classname')}::{case.get('name')}": _outcome(case)
        for case in ElementTree.parse(report).iter("testcase")
    }


def _outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return next((kind for kind in ("error", "failure", "skipped") if kind in kinds), "passed")


@functools.cache
def sources(name: str, environment: Environment) -> Path:
    """A package's source distribution, of the version that the environment has."""
    (metadata,) = environment.packages.glob(f"{name}-*.dist-info")
    version = metadata.name[len(name) + 1 : -len(".dist-info")]

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        # Downloading makes pip ask the build system for metadata: no more than that is needed.
        words += ["--no-binary", name, f"{name}=={version}"]
        run(words, env=clean_environment(), timeout=300).check()
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        archive.unlink()

    folder = made_once(TEST / "sources" / name, version, make)
    (found,) = (path for path in folder.iterdir() if path.is_dir())
    return found
