"""``python -m pybundle site install|remove|status ENV``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Runs before most others, so that the loader knows of the environment as ``site`` found it.
NAME = "pybundle.pth"

#: Costs one look at the environment when ``PYBUNDLE`` is not set. A broken installation of ours
#: must not break the environment's Python, so nothing but our own module is imported.
LINE = (
    "import os; os.environ.get('PYBUNDLE') and "
    "__import__('pybundle._site', fromlist=['arm']).arm()\n"
)

USAGE = "usage: pybundle site (install | remove | status) ENV"


class SiteError(Exception):
    """What is wrong, and in ``hint`` what to do."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


def main(arguments: list[str]) -> int:
    """Run one action; returns the exit status."""
    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    actions = {"install": install, "remove": remove, "status": status}
    if len(arguments) != 2 or arguments[0] not in actions:
        print(f"error: expected an action and an environment\n{USAGE}", file=sys.stderr)
        return 2
    try:
        # Absolute, and with its links: a venv's Python is known by its place.
        print(actions[arguments[0]](Path(os.path.abspath(arguments[1]))))
    except SiteError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror}: `{error.filename}`", file=sys.stderr)
        return 1
    return 0


def install(environment: Path) -> str:
    """Put the hook into an environment."""
    python, folder = _ask(environment)
    if not _has_package(python):
        raise SiteError(
            f"pybundle is not installed in the environment: `{environment}`",
            f"run `{python} -m pip install pybundle` first",
        )
    hook = folder / NAME
    # Another process of the environment may be starting: it sees the old file or the new one.
    new = hook.with_name(f".{NAME}.{os.getpid()}")
    new.write_text(LINE, encoding="utf-8")
    new.replace(hook)
    return f"installed: `{hook}`"


def remove(environment: Path) -> str:
    """Take the hook out again."""
    _, folder = _ask(environment)
    hook = folder / NAME
    try:
        hook.unlink()
    except FileNotFoundError:
        return f"not installed: `{environment}`"
    return f"removed: `{hook}`"


def status(environment: Path) -> str:
    """Say whether an environment has the hook, and whether it is this version's."""
    _, folder = _ask(environment)
    hook = folder / NAME
    try:
        text = hook.read_text(encoding="utf-8")
    except FileNotFoundError:
        return f"not installed: `{environment}`"
    if text != LINE:
        return f"installed by another version: `{hook}`"
    return f"installed: `{hook}`"


def _ask(environment: Path) -> tuple[Path, Path]:
    """The environment's Python, and its folder for packages."""
    names = ("bin/python3", "bin/python")
    python = next((environment / name for name in names if (environment / name).exists()), None)
    if python is None:
        raise SiteError(
            f"not a Python environment: expected `bin/python3`: `{environment}`",
            "give the folder of a venv or a prefix",
        )
    answer = _run(python, "import sysconfig; print(sysconfig.get_path('purelib'))")
    folder = Path(answer)
    if not folder.is_dir():
        raise SiteError(f"no folder for packages: `{folder}`")
    return python, folder


def _has_package(python: Path) -> bool:
    code = "import importlib.util as u; print(u.find_spec('pybundle._native') is not None)"
    try:
        return _run(python, code) == "True"
    except SiteError:
        return False


def _run(python: Path, code: str) -> str:
    """What the environment's own Python prints, without its hook."""
    environment = {**os.environ, "PYBUNDLE_DISABLE": "1"}
    for name in ("PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    result = subprocess.run(
        [python, "-s", "-c", code],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        last = result.stderr.strip().rpartition("\n")[2]
        raise SiteError(f"cannot run the environment's Python: {last}: `{python}`")
    # What its own sitecustomize prints comes first.
    return result.stdout.strip().rpartition("\n")[2]
