"""The test bed itself: a hang is named and nothing of it survives."""

from __future__ import annotations

import os
import time

import pytest
from support.process import Hang, run


def test_a_hang_is_named_and_killed_with_all_that_it_started():
    script = "setsid sleep 61.25 & sleep 61.25"
    begin = time.monotonic()
    with pytest.raises(Hang, match=r"hang: no end within 1 s(.|\n)*sleep 61.25"):
        run(["/bin/sh", "-c", script], timeout=1)
    assert time.monotonic() - begin < 20
    assert not _commands_with(b"61.25")


def test_a_hang_under_mpiexec_leaves_no_rank(wheel_mpi):
    with pytest.raises(Hang, match="hang"):
        wheel_mpi.run(3, ["sleep", "62.25"], timeout=3)
    assert not _commands_with(b"62.25")


def _commands_with(text: bytes) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if text in file.read():
                        found.append(entry)
            except OSError:
                pass
    return found


def test_every_rank_starts(mpi):
    result = mpi.run(4, ["/bin/sh", "-c", "echo rank"]).check()
    assert result.stdout.count("rank") == 4


def test_the_small_environment_holds_what_real_ones_hold(small):
    script = """
import beside, fast, plain, shapes.resources, spaced.one, spaced.two
from importlib.metadata import distribution
# Once or twice: in a virtual environment some versions of site visit site-packages twice.
assert set(plain.HOOKS) == {"hook.pth"}
assert fast.tally(10) == 55
assert shapes.resources.beside("latest.txt") == shapes.resources.asked("square.txt")
assert spaced.one.NAME + spaced.two.NAME + beside.NAME == "onetwobeside"
assert [point.name for point in distribution("shapes").entry_points] == [
    "shapes-area", "square", "circle"]
"""
    run([small.python, "-c", script]).check()
    assert run([small.folder / "bin/shapes-area", "3"]).check().stdout == "9.0\n"
