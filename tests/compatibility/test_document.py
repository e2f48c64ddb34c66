"""COMPATIBILITY.md names tests that exist, and every test of this folder."""

import re

from support.paths import ROOT

DOCUMENT = ROOT / "COMPATIBILITY.md"


def defined(folder, pattern):
    """The tests that files of a folder define."""
    names = set()
    for file in folder.glob(pattern):
        names.update(re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE))
    return names


def rows():
    """The cells of every row of every table."""
    lines = DOCUMENT.read_text().splitlines()
    tables = (line.strip("| ").split(" | ") for line in lines if line.startswith("| "))
    return [cells for cells in tables if cells[0] != "path-based import" and "---" not in cells[0]]


def test_every_row_names_a_test_that_exists():
    known = defined(ROOT / "tests", "**/test_*.py")
    found = rows()
    assert len(found) > 80
    for cells in found:
        assert len(cells) == 3, cells
        names = re.findall(r"`(test_\w+)`", cells[2])
        assert names and set(names) <= known, cells


def test_every_comparison_has_a_row():
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text()))
    own = defined(ROOT / "tests/compatibility", "test_*.py") - defined(
        ROOT / "tests/compatibility", "test_document.py"
    )
    assert own <= named, sorted(own - named)


def test_every_row_says_what_ours_does():
    for cells in rows():
        assert cells[1].startswith(("same", "differs because ", "not supported because ")), cells
