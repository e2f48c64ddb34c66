"""Count a program's file operations with fscount."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import built
from .process import Result, run


@dataclass
class Phase:
    """What a process did between two marks."""

    name: str
    calls: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    failed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    below: list[int] = field(default_factory=list)
    """Operations below each folder given, in that order."""
    opened: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    """Paths of operations below a folder; of all, if asked."""


@dataclass
class Process:
    """One program run by one process."""

    pid: int
    command: list[str]
    phases: list[Phase]

    def marked(self, name: str) -> bool:
        """Whether it set this mark itself; what is forked meanwhile begins in the phase."""
        return any(phase.name == name for phase in self.phases[1:])

    def phase(self, name: str) -> Phase:
        """All its phases of this name in one; fails if it has none."""
        parts = [phase for phase in self.phases if phase.name == name]
        assert parts, f"process {self.pid} has no phase {name!r}: {self.command}"
        whole = Phase(name, below=[0] * len(parts[0].below))
        for part in parts:
            whole.calls += part.calls
            whole.operations += part.operations
            whole.failed += part.failed
            whole.kinds += part.kinds
            whole.below = [a + b for a, b in zip(whole.below, part.below)]
            whole.opened += part.opened
            whole.paths += part.paths
        return whole


@dataclass
class Counts:
    """How a program ended and what its processes did."""

    result: Result
    processes: list[Process]

    def with_phase(self, name: str) -> list[Process]:
        """The processes that set this mark: the ranks, without their launcher."""
        return [process for process in self.processes if process.marked(name)]


def count(
    args: Sequence[object],
    *,
    below: Sequence[Path] = (),
    paths: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    cwd: Path | None = None,
) -> Counts:
    """Run a program under fscount; raises :class:`~support.process.Hang`."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        result = run([*command(file.name, below, paths), *args], env=env, timeout=timeout, cwd=cwd)
        text = Path(file.name).read_text()
    return Counts(result, parse(json.loads(text)) if text else [])


def command(output: str | Path, below: Sequence[Path] = (), paths: bool = False) -> list[object]:
    """The words before a program's own: for launchers that tests start themselves."""
    words: list[object] = [built.fscount(), "-o", output]
    for folder in below:
        words += ["--below", folder]
    return [*words, *(["--paths"] if paths else []), "--"]


def parse(report: Mapping[str, Any]) -> list[Process]:
    """The processes of a report of fscount."""
    return [
        Process(
            pid=process["pid"],
            command=process["command"],
            phases=[
                Phase(
                    name=phase["name"],
                    calls=Counter(phase["calls"]),
                    operations=phase["operations"]["total"],
                    failed=phase["operations"]["failed"],
                    kinds=Counter(phase["operations"]["kinds"]),
                    below=[folder["total"] for folder in phase["below"]],
                    opened=Counter(phase["opened"]),
                    paths=Counter(phase["paths"]),
                )
                for phase in process["phases"]
            ],
        )
        for process in report["processes"]
    ]


MARK = """
def mark(name):
    import os
    try:
        os.stat("/pybundle-mark/" + name)
    except OSError:
        pass
"""
"""Python source of a function that begins a phase."""
