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
interpreter = interpreters.create()
assert not interpreters.run_string(interpreter, code)
interpreters.destroy(interpreter)
"""

QUEUES = """\
import concurrent.futures, math, sys
from concurrent import interpreters
with concurrent.futures.InterpreterPoolExecutor(1) as pool:
    print(list(pool.map(math.sqrt, [4, 9])))
queue = interpreters.create_queue()
for code in "", f"import sys; sys.path[:] = {sys.path!r}; import plain; ":
    interpreter = interpreters.create()
    interpreter.exec(code)
    interpreter.prepare_main(queue=queue)
    interpreter.exec("queue.put('back')")
    print(queue.get(timeout=10))
    interpreter.close()
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


def test_queues_lead_into_them(each_python, environment, tmp_path):
    if int(each_python.minor.partition(".")[2]) < 14:
        pytest.skip("no module for interpreters before CPython 3.14")
    program = tmp_path / "queues.py"
    program.write_text(QUEUES)
    small = environment("small", each_python)
    (tmp_path / "node").mkdir()
    expected = plain(small, program)
    assert expected == "[2.0, 3.0]\nback\nback\n"
    for runner in (bundles.runner, bundles.packed_runner):
        assert runner(small, tmp_path / "node").run(program).check().stdout == expected


def test_no_file_is_placed_before_one_is_made(each_python, environment, tmp_path):
    runner = bundles.runner(environment("small", each_python), tmp_path / "node")
    runner.node_dir.mkdir()
    program = (
        "import concurrent.futures, os, sys\n"
        "try:\n    import _interpreters as interpreters\n"
        "except ImportError:\n    import _xxsubinterpreters as interpreters\n"
        "site = [path for path in sys.path if path.startswith(sys.prefix)]\n"
        "def there():\n"
        "    return any(os.path.exists(path + '/shapes/__init__.py') for path in site)\n"
        "print(there())\n"
        "interpreters.destroy(interpreters.create())\n"
        "print(there())\n"
    )
    assert runner.run("-c", program).check().stdout == "False\nTrue\n"


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
