"""Real packages from a bundle: their own tests pass, and every module is what plain files make."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import bundles, package_suites, packages
from support.environments import Environment
from support.package_suites import Suite
from support.process import clean_environment, run


@pytest.fixture(scope="module")
def node() -> Iterator[Path]:
    """A folder for node images."""
    with packages.node() as folder:
        yield folder


def assert_same(suite: Suite, environment: Environment, folder: Path, node: Path) -> None:
    """Run a suite both ways: the same tests pass, and nothing is imported past the bundle."""
    outcome = package_suites.compare(suite, environment, folder, node)
    assert outcome.differences == []
    assert outcome.fell_through == []


@pytest.mark.parametrize("suite", package_suites.SMALL, ids=lambda suite: "-".join(suite.parts))
def test_own_tests(suite, environment, python, tmp_path, node):
    assert_same(suite, environment("tested", python), tmp_path, node)


def test_matplotlibs_font_list_is_shared_with_plain_starts(w2, tmp_path, node):
    # It lies in the user's home, names the fonts of a package by relative paths, and is written
    # under a lock that ranks would queue for: whoever has written it, nobody does so again.
    program = tmp_path / "program.py"
    program.write_text(
        "import matplotlib.font_manager as fonts, os\n"
        "found = fonts.findfont('DejaVu Sans')\n"
        "print(os.path.isfile(found), os.path.basename(found), len(fonts.fontManager.ttflist))\n"
    )

    def start(way: str, home: Path) -> tuple[str, dict[Path, tuple[int, bytes]]]:
        home.mkdir(exist_ok=True)
        variables = {"HOME": str(home), "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None}
        if way == "plain":
            result = run([w2.python, program], env=clean_environment(**variables), timeout=100)
        else:
            result = bundles.runner(w2, node).run(program, env=variables, timeout=100)
        lists = home.rglob("fontlist-*.json")
        seen = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in lists}
        return result.check().stdout, seen

    for first, then in (("plain", "bundle"), ("bundle", "plain"), ("bundle", "bundle")):
        home = tmp_path / f"{first}-{then}"
        written = start(first, home)
        assert len(written[1]) == 1
        assert start(then, home) == written


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("suite", package_suites.SUITES, ids=lambda suite: suite.name)
def test_own_tests_of_many_packages(suite, environment, python, tmp_path, node):
    assert_same(suite, environment("packages", python), tmp_path, node)


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.timeout(5400)
def test_every_module_of_the_most_downloaded_packages(environment, python, tmp_path, node):
    installed = environment("packages", python)
    looker = packages.Looker(installed, tmp_path, node)
    known = packages.distributions(installed)
    assert len(known) > 150
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(looker.compare, known))
    notes = {each.distribution.name: each.differences + each.fell_through for each in found}
    assert {name: different for name, different in notes.items() if different} == {}
    assert sum(each.imported for each in found) > 8000
