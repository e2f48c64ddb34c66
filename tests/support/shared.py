"""A job whose files all lie on a shared file system, and the ways to start it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import bundles, slow
from .environments import W2, Environment
from .mpis import Mpi
from .process import run
from .slow import Slow

PROGRAM = f"{W2}\nimport helper\n"

WAYS = {
    "start": "interpreter start alone",
    "plain": "plain Python",
    "module": "python -m of a frozen module",
    "run": "python -m pybundle run",
    "packed": "pybundle-python",
    "staged packed": "staged, pybundle-python",
    "staged run": "staged, python -m pybundle run",
    "staged plain": "staged, python",
}
"""What a job's ranks run, and how it is called in tables."""


@dataclass(frozen=True)
class Site:
    """Where the job's files lie, each below a folder of its own."""

    environment: Environment
    project: Path
    """The bundle and the program."""
    own: Path
    """The one folder of pybundle that a job without an installation needs."""
    node_dir: Path
    mpi: Mpi

    @property
    def bundle(self) -> Path:
        return self.project / "env.pybundle"

    @property
    def program(self) -> Path:
        return self.project / "app" / "app.py"

    @property
    def shared(self) -> list[Path]:
        """What a job reads without us: environment, base prefix, program; and the bundle."""
        base = self.environment.base.prefix
        # Slowing the whole system down would say nothing about Python.
        return [self.environment.folder, *([] if base == Path("/usr") else [base]), self.project]

    def words(self, way: str) -> list[object]:
        """What each rank runs, one of :data:`WAYS`."""
        staged, _, way = way.rpartition(" ")
        if staged:
            (image,) = (path.parent for path in self.node_dir.glob("pybundle-*/*/state"))
            python, packed = image / "tree/bin/python", image / "boot/bin/pybundle-python"
            bundle: list[object] = []
        else:
            python, packed = self.environment.python, self.own / "bin/pybundle-python"
            bundle = ["--bundle", self.bundle]
        return {
            "start": [python, "-c", "pass"],
            "plain": [python, self.program],
            "module": [python, "-m", "__hello__"],
            "run": [python, "-m", "pybundle", "run", *bundle, self.program],
            "packed": [packed, *bundle, self.program],
        }[way]

    def start(self, way: str, ranks: int, **more: object) -> Slow:
        """Run the job with all files but MPI's on a slow file system."""
        launch: Sequence[object] = [self.mpi.mpiexec, "-n", ranks, *self.words(way)]
        return slow.start(launch, [*self.shared, self.own], env=self.variables, **more)

    @property
    def variables(self) -> dict[str, str]:
        """The job's environment."""
        # Programs that are searched for by name are none of the job's files.
        paths = [Path(path) for path in os.environ["PATH"].split(":")]
        below = [path for path in paths if any(map(path.is_relative_to, self.shared))]
        return self.mpi.environment(
            PATH=":".join(str(path) for path in paths if path not in below),
            PYBUNDLE_NODE_DIR=str(self.node_dir),
            PYBUNDLE_TIMEOUT="30",
        )

    def stage(self) -> None:
        """Stage the bundle on the node."""
        words = [self.environment.pybundle, "stage", "--bundle", self.bundle]
        slow.start(words, self.shared, env=self.variables).result.check()


def site(environment: Environment, folder: Path, mpi: Mpi) -> Site:
    """Lay the files out below a folder."""
    made = Site(environment, folder / "project", folder / "own", folder / "node", mpi)
    made.node_dir.mkdir()
    made.program.parent.mkdir(parents=True)
    made.program.write_text(PROGRAM)
    made.program.with_name("helper.py").write_text("")
    runner = bundles.packed_runner(environment, made.node_dir)
    shutil.copyfile(runner.bundle, made.bundle)
    bundles.carried(runner, made.own)
    # What a program's first run leaves in the user's cache (matplotlib's list of fonts) is no
    # business of the ones that are measured.
    run([environment.python, made.program], env=made.variables, timeout=120).check()
    return made
