"""Real packages from a bundle beside plain files, as tables: ``packages.py modules|tests [NAME…]``.

``modules`` imports every module of every distribution both ways and counts what differs; ``tests``
runs packages' own tests both ways. The table goes to stdout, each difference to stderr.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import environments, package_suites, packages, pythons
from support.environments import Environment


def main() -> int:
    """Print a table; the status says whether anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["modules", "tests"])
    parser.add_argument("names", nargs="*", help="distributions; all if none is named")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    environment = environments.environment("packages", pythons.main_python())
    table = {"modules": modules, "tests": tests}[options.table]
    differs = False
    work, pool = tempfile.TemporaryDirectory(), ThreadPoolExecutor(options.jobs)
    with work as folder, packages.node() as node, pool:
        for row, notes in table(environment, (Path(folder), node), pool, options.names):
            print("|", " | ".join(map(str, row)), "|", flush=True)
            for note in notes:
                differs = True
                print(f"{row[0]}: {note}", file=sys.stderr, flush=True)
    return differs


# A row of a table and what differs in it.
Row = tuple[tuple[object, ...], list[str]]
# Where files of the runs and node images go.
Folders = tuple[Path, Path]


def modules(
    environment: Environment, folders: Folders, pool: ThreadPoolExecutor, names: list[str]
) -> Iterator[Row]:
    """Distributions, their modules and what differs."""
    looker = packages.Looker(environment, *folders)
    known = packages.distributions(environment)
    yield ("distribution", "modules", "import", "looked at", "fall-throughs", "differences"), []
    yield ("---", "--:", "--:", "--:", "--:", "--:"), []
    total = [0] * 6
    for found in pool.map(looker.compare, [d for d in known if not names or d.name in names]):
        told = found.distribution
        fell_through = [f"fell through: {path}" for path in found.fell_through]
        numbers = (len(told.modules), found.imported, found.seen)
        numbers += (len(fell_through), len(found.differences))
        total = [a + b for a, b in zip(total, (1, *numbers))]
        yield (f"{told.name} {told.version}", *numbers), fell_through + found.differences
    yield (f"{total[0]} distributions", *total[1:]), []


def tests(
    environment: Environment, folders: Folders, pool: ThreadPoolExecutor, names: list[str]
) -> Iterator[Row]:
    """Packages' own tests."""
    columns = ("tests", "passed on files", "passed from the bundle", "fall-throughs", "differences")
    yield ("package", *columns), []
    yield ("---", *["--:"] * len(columns)), []
    chosen = [suite for suite in package_suites.SUITES if not names or suite.name in names]
    run = functools.partial(_run, environment, folders)
    for suite, found in pool.map(run, chosen):
        if isinstance(found, Exception):
            yield (suite.name, *["?"] * len(columns)), [str(found)]
            continue
        fell_through = [f"fell through: {path}" for path in found.fell_through]
        numbers = (found.plain.total(), found.plain["passed"], found.packed["passed"])
        numbers += (len(fell_through), len(found.differences))
        yield (suite.name, *numbers), fell_through + found.differences


def _run(
    environment: Environment, folders: Folders, suite: package_suites.Suite
) -> tuple[package_suites.Suite, package_suites.Outcome | Exception]:
    # One suite that can't run must not cost the table of all others.
    try:
        folder, node = folders[0] / suite.name, folders[1]
        return suite, package_suites.compare(suite, environment, folder, node)
    except Exception as error:
        return suite, error


if __name__ == "__main__":
    sys.exit(main())
