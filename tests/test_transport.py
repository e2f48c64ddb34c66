"""The MPI transport alone, in real jobs: `src/load/examples/transport_check.rs` plays the job."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest
from support.built import build_mpi
from support.mpis import Mpi
from support.paths import ROOT, TARGET

pytestmark = pytest.mark.slow

# Scenarios that end with status 0, and the ranks to try them with.
GOOD = [
    ("all", 1),
    ("all", 2),
    ("all", 4),
    ("all", 8),
    ("outstanding", 4),
    ("second-init", 4),
    ("init-before", 2),
    ("fork", 2),
]


@functools.cache
def check() -> Path:
    """The program; optimised, since it fills and compares hundreds of megabytes."""
    env = dict(os.environ, CARGO_TARGET_DIR=str(TARGET))
    words = ["cargo", "build", "--release", "--quiet", "-p", "pybundle-load"]
    words += ["--example", "transport_check"]
    subprocess.run(words, cwd=ROOT, env=env, check=True, timeout=900)
    return TARGET / "release" / "examples" / "transport_check"


@functools.cache
def plugin(mpi: Mpi) -> Path:
    """The plug-in for an MPI."""
    found = build_mpi.probe(str(mpi.mpicc))
    return build_mpi.build(found, ROOT, TARGET / "mpi" / f"{found.flavour}-{found.key}")


@pytest.mark.parametrize(("scenario", "ranks"), GOOD)
def test_scenario(mpi: Mpi, scenario: str, ranks: int) -> None:
    mpi.run(ranks, [check(), plugin(mpi), scenario]).check()


def test_abort_gives_its_status(mpi: Mpi) -> None:
    result = mpi.run(4, [check(), plugin(mpi), "abort"]).check(7)
    assert result.seconds < 20, result


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        ("late", "no progress for 1 s: waiting for a late rank"),
        ("late-bulk", "no progress for 1 s: waiting for root's bytes"),
    ],
)
def test_a_late_rank_is_given_up(mpi: Mpi, scenario: str, says: str) -> None:
    result = mpi.run(4, [check(), plugin(mpi), scenario]).check(1)
    assert says in result.stderr + result.stdout, result
    assert result.seconds < 20, result


def test_a_program_that_never_starts_mpi_is_named(mpi: Mpi) -> None:
    words = [check(), plugin(mpi), "absent", ":", "-n", 1, "sleep", 60]
    result = mpi.run(1, words)
    assert result.status != 0, result
    assert "waited 5 s in MPI_Init: some processes of this job don't start MPI" in result.stderr
    assert result.seconds < 30, result


def test_a_program_that_does_not_join_is_named(mpi: Mpi, tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text(
        "#include <mpi.h>\n#include <unistd.h>\n"
        "int main(int c, char **v) { MPI_Init(&c, &v); sleep(60); return MPI_Finalize(); }\n"
    )
    other = tmp_path / "other"
    subprocess.run([mpi.mpicc, source, "-o", other], check=True, timeout=60)
    result = mpi.run(1, [check(), plugin(mpi), "absent", ":", "-n", 1, other])
    assert result.status != 0, result
    assert "waited 5 s for all 2 ranks of this MPI world to join" in result.stderr, result
    assert result.seconds < 30, result
