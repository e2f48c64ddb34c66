"""`site` runs in every sub-interpreter, and our start with it: nothing is seen of that."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import bundles, environments
from support.environments import Environment
from support.process import clean_environment, run

PROGRAM = """\
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = "import json, sys; print(sys.path, sorted(sys.modules)[:3], json.loads('1'), flush=True)"
assert not interpreters.run_string(interpreters.create(), code)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Makes a sub-interpreter, which says what it would import from."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def plain(environment: Environment, program: Path) -> str:
    """What the program says without a bundle."""
    result = run([environment.python, program], env=clean_environment()).check()
    assert not result.stderr
    return result.stdout


def test_in_a_child(each_python, environment, program, tmp_path):
    runner = bundles.runner(environment("small", each_python), tmp_path / "node")
    runner.node_dir.mkdir()
    start = (
        f"import subprocess, sys; subprocess.run([sys.executable, {str(program)!r}], check=True)"
    )
    result = runner.run("-c", start).check()
    expected = plain(environments.environment("runner", each_python), program)
    assert (result.stdout, result.stderr) == (expected, "")


def test_with_site_integration(each_python, environment, program, tmp_path):
    site = environment("runner", each_python).copy(tmp_path / "site")
    expected = plain(site, program)
    run([site.python, "-m", "pybundle", "site", "install", site.folder]).check()
    bundle = str(bundles.bundle(environment("small", each_python)))
    (tmp_path / "node").mkdir()
    env = clean_environment(PYBUNDLE=bundle, PYBUNDLE_NODE_DIR=str(tmp_path / "node"))
    # Once the program itself, once a child of it.
    start = (
        "import plain, subprocess, sys; "
        "assert plain.__file__.startswith(sys.prefix), plain.__file__; "
        f"subprocess.run([sys.executable, {str(program)!r}], check=True)"
    )
    for words in ([program], ["-c", start]):
        result = run([site.python, *words], env=env).check()
        assert (result.stdout, result.stderr) == (expected, "")
