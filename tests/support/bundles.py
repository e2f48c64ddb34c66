"""Bundles of the test environments, packed once, and programs run from them."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import built, environments
from .environments import Environment
from .mpis import Mpi
from .paths import TEST, digest, made_once
from .process import Result, clean_environment, run
from .pythons import Python


@functools.cache
def bundle(environment: Environment) -> Path:
    """The bundle of an environment."""
    wheel = built.wheel()
    packer = environments.environment("runner", environment.base).pybundle

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        words = [packer, "pack", environment.folder, "--level", "1", "-o", folder / "env.pybundle"]
        # CPython's own tests look for files of the standard library by path, and for importlib's
        # very loaders in it: it stays where it is.
        words += ["--no-stdlib"] if environment.name == "cpython" else []
        run(words, timeout=300).check()

    name = f"{environment.name}-{environment.base.minor}"
    mark = environment.folder.with_name(f".{environment.folder.name}.key")
    key = digest([str(wheel.stat().st_mtime_ns), mark.read_text()])
    return made_once(TEST / "bundle" / name, key, make) / "env.pybundle"


def settle(bundle: Path) -> None:
    """Wait until a bundle is old enough to be known by its times; till then all read its index."""
    while time.time() - bundle.stat().st_ctime < 3:
        time.sleep(0.1)


# What is left on a node when nothing is: the user's lock, or not even that.
CLEAN = ([], [f"pybundle-{os.getuid()}/lock"])


@dataclass(frozen=True)
class Runner:
    """``python -m pybundle run`` with a bundle, by an interpreter that has pybundle alone."""

    bundle: Path
    python: Path
    node_dir: Path
    """Empty before and after."""

    def words(self, *args: object) -> list[object]:
        """The command line, without a launcher."""
        return [self.python, "-m", "pybundle", "run", "--bundle", self.bundle, *args]

    def variables(self, env: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
        """What tests set for every run."""
        return {"PYBUNDLE_NODE_DIR": str(self.node_dir), "PYBUNDLE_TIMEOUT": "30", **(env or {})}

    def run(
        self,
        *args: object,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Result:
        """One process without a launcher."""
        variables = clean_environment(**self.variables(env))
        return run(self.words(*args), env=variables, cwd=cwd, stdin=stdin, timeout=timeout)

    def launch(
        self,
        mpi: Mpi,
        ranks: int,
        args: Sequence[object],
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> Result:
        """A job."""
        words = self.words(*args)
        return mpi.run(ranks, words, env=self.variables(env), cwd=cwd, timeout=timeout)

    def left(self) -> list[str]:
        """What runs have left behind on the node."""
        found = (path for path in self.node_dir.rglob("*") if not path.is_dir())
        return sorted(os.fspath(path.relative_to(self.node_dir)) for path in found)


@dataclass(frozen=True)
class PackedRunner(Runner):
    """``pybundle-python`` with a bundle: the Python in it runs."""

    def words(self, *args: object) -> list[object]:
        return [self.python.with_name("pybundle-python"), "--bundle", self.bundle, *args]


def packed_runner(environment: Environment, node_dir: Path) -> PackedRunner:
    """Runs the bundle of an environment by its own Python."""
    plain = runner(environment, node_dir)
    if not environment.base.libraries:
        pytest.skip("this Python has no libpython")
    return PackedRunner(plain.bundle, plain.python, plain.node_dir)


def runner(environment: Environment, node_dir: Path) -> Runner:
    """Runs the bundle of an environment by an interpreter beside it."""
    python: Python = environment.base
    return Runner(bundle(environment), environments.environment("runner", python).python, node_dir)


def carried(plain: Runner, folder: Path) -> Path:
    """The one folder that ``pybundle-python`` needs, made as the README says."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(plain.python.with_name("pybundle-python"), folder / "bin")
    installed = next(plain.python.parent.parent.glob("lib/python3*/site-packages/pybundle"))
    shutil.copytree(installed, folder / "pybundle")
    return folder
