"""Fixtures of all tests. What a machine lacks is skipped by name; `make test` shows the list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from support import built, counter, environments, leftovers, mpis, process, pythons
from support.environments import Environment
from support.mpis import Mpi
from support.pythons import Python


@pytest.fixture(scope="session")
def python() -> Python:
    """The main Python, for which the large environments are made."""
    return pythons.main_python()


@pytest.fixture(scope="session", params=pythons.MINORS)
def each_python(request: pytest.FixtureRequest) -> Python:
    """Every Python once."""
    found = pythons.pythons().get(request.param)
    if found is None:
        pytest.skip(f"no CPython {request.param} on this machine")
    return found


@pytest.fixture(scope="session", params=mpis.NAMES)
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """Every MPI once."""
    return _mpi(request.param)


@pytest.fixture(scope="session", params=mpis.WHEELS)
def wheel_mpi(request: pytest.FixtureRequest) -> Mpi:
    """Both MPIs that need no installation on the machine."""
    return _mpi(request.param)


def _mpi(name: str) -> Mpi:
    try:
        found = mpis.find(name)
    except mpis.Missing as missing:
        pytest.skip(f"{name}: {missing}")
    return found if name in mpis.WHEELS else built.with_plugin(found)


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel of this clone: what leads to a bundle asks for it, so a test's time is its own."""
    return built.wheel()


@pytest.fixture(scope="session")
def environment(wheel: Path) -> Callable[[str, Python], Environment]:
    """Makes an environment by name: see :mod:`support.environments`."""
    return environments.environment


@pytest.fixture(scope="session")
def small(wheel: Path, python: Python) -> Environment:
    """The small environment for the main Python."""
    return environments.environment("small", python)


@pytest.fixture(scope="session")
def w2(wheel: Path, python: Python) -> Environment:
    """The large environment, for the main Python."""
    return environments.environment("w2", python)


@pytest.fixture(scope="session")
def runner(wheel: Path, python: Python) -> Environment:
    """An environment of the main Python that holds pybundle alone."""
    return environments.environment("runner", python)


@pytest.fixture
def run() -> Callable[..., process.Result]:
    """Runs a program with a hard end."""
    return process.run


@pytest.fixture(scope="session")
def fscount() -> Path:
    """The counter itself."""
    return built.fscount()


@pytest.fixture
def count(fscount: Path) -> Callable[..., counter.Counts]:
    """Runs a program and counts its file operations."""
    return counter.count


@pytest.fixture(scope="session", autouse=True)
def no_segments_left() -> Iterator[None]:
    """Remove what killed ranks leave in memory: it would add up over many runs."""
    before = leftovers.segments()
    yield
    leftovers.remove(leftovers.segments() - before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for an MPI is marked so, and one for the large environment likewise."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "mpi" in names or "wheel_mpi" in names:
            item.add_marker(pytest.mark.mpi)
        if "w2" in names:
            item.add_marker(pytest.mark.large)


def pytest_report_header() -> list[str]:
    """What was found, and what this machine lacks."""
    found = pythons.pythons()
    absent = [minor for minor in pythons.MINORS if minor not in found]
    lines = ["pythons: " + ", ".join(f"{p.minor} ({p.executable})" for p in found.values())]
    if absent:
        lines.append("pythons not found: " + ", ".join(absent))
    return lines
