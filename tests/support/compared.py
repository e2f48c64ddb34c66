"""Tests that do the same thing with files and with a bundle, and compare what they saw.

The body of a test marked with :func:`compared` runs in interpreters of its own: by the
environment's interpreter from files, by an empty environment's with the bundle, and for the main
Python by the environment's own with the bundle. One process each way runs all bodies, every one in
a forked child.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from . import bundles, environments
from .bundles import Runner
from .paths import ROOT, TEST, digest
from .process import Result, clean_environment, run
from .pythons import Python, main_python

NODE = TEST / "node"
PROBING = ROOT / "tests" / "support" / "probing"
FILES = "files"
OWN = "own interpreter"
EMPTY = "empty environment"
BUNDLED = (EMPTY, OWN)

# The bodies of all tests that were collected, by their names.
_bodies: dict[str, str] = {}


def compared(body: Callable[[], Any]) -> Callable[..., None]:
    """Makes a test of a function that returns what it saw."""
    lines = textwrap.dedent(inspect.getsource(body)).splitlines(keepends=True)
    begin = next(at for at, line in enumerate(lines) if line.startswith("def "))
    assert body.__name__ not in _bodies, f"two tests are called {body.__name__}"
    _bodies[body.__name__] = "".join(lines[begin:])

    def test(each_python: Python) -> None:
        expected = answers(each_python, FILES)[body.__name__]
        assert "returned" in expected, expected.get("raised", expected)
        for way in ways(each_python):
            got = answers(each_python, way)[body.__name__]
            assert "returned" in got, f"{way}: {got.get('raised', got)}"
            assert not list(differences(expected["returned"], got["returned"])), way

    test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
    return test


def ways(python: Python) -> list[str]:
    """The ways to run a bundle: both for the main Python, the harder one for the others."""
    return [EMPTY, OWN] if python == main_python() else [EMPTY]


@functools.cache
def answers(python: Python, way: str) -> dict[str, Any]:
    """What the bodies of all tests did, this way."""
    text = "\n\n".join(_bodies.values())
    folder = TEST / "probes"
    folder.mkdir(parents=True, exist_ok=True)
    # The same path each way: it appears in warnings and tracebacks.
    file = folder / f"{digest([text])}.py"
    file.write_text(text)
    return json.loads(output(python, way, PROBING / "probe.py", file))


def output(python: Python, way: str, *program: object, **variables: str) -> str:
    """What a program prints, this way."""
    return start(python, way, *program, **variables).check().stdout


def start(
    python: Python,
    way: str,
    *program: object,
    options: tuple[str, ...] = (),
    cwd: Path | None = None,
    **variables: str,
) -> Result:
    """Run a program with the environment ``varied``, this way."""
    packed = environments.environment("varied", python)
    if way == FILES:
        env = clean_environment(**variables)
        return run([packed.python, *options, *program], env=env, cwd=cwd, timeout=100)
    NODE.mkdir(parents=True, exist_ok=True)
    served = bundles.runner(packed, NODE)
    if way == OWN:
        served = Runner(served.bundle, packed.python, NODE)
    words = served.words(*program)
    env = clean_environment(**served.variables(variables))
    return run([words[0], *options, *words[1:]], env=env, cwd=cwd, timeout=100)


def masked(python: Python, text: str) -> str:
    """A text in which neither the environment's folder nor the tree's is named, nor the base's."""
    packed = environments.environment("varied", python).folder
    text = re.sub(rf"{re.escape(str(NODE))}/pybundle-[0-9]+/[^/\"' ]+/tree", "<env>", text)
    text = re.sub(r"<env>/META-INF/pybundle/roots/\d+(?=/lib/python)", str(python.prefix), text)
    return text.replace(str(packed), "<env>")


def differences(expected: Any, got: Any, where: str = "") -> Iterator[str]:
    """Where two answers differ, a line each."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in expected.keys() | got.keys():
            pair = (side.get(key, "absent") for side in (expected, got))
            yield from differences(*pair, f"{where}[{key!r}]")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for at, pair in enumerate(zip(expected, got)):
            yield from differences(*pair, f"{where}[{at}]")
    elif expected != got:
        yield f"{where}: expected {expected!r}, got {got!r}"
