"""Programs whose files lie on a slow shared file system, and what its metadata server is asked."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import built
from .process import Result, run


class Unavailable(Exception):
    """This machine can't show folders slowly; the text says what is missing."""


@dataclass(frozen=True)
class Asked:
    """What was asked below one folder."""

    folder: Path
    requests: int
    bytes: int
    names: Mapping[str, Mapping[str, int]]
    """By path below the folder, then by kind: how often."""


@dataclass(frozen=True)
class Slow:
    """How a program ended, and what was asked below each folder."""

    result: Result
    asked: tuple[Asked, ...]

    def requests(self, *folders: Path) -> int:
        """Requests below some folders together."""
        wanted = {folder.resolve() for folder in folders}
        return sum(asked.requests for asked in self.asked if asked.folder in wanted)

    def names(self, *folders: Path) -> list[str]:
        """What was asked below some folders, one line each."""
        wanted = {folder.resolve() for folder in folders}
        return [
            f"{count} {kind} {asked.folder.name}/{name}"
            for asked in self.asked
            if asked.folder in wanted
            for name, kinds in asked.names.items()
            for kind, count in kinds.items()
        ]


def start(
    args: Sequence[object],
    over: Sequence[Path],
    *,
    env: Mapping[str, str] | None = None,
    service: int = 300,
    rate: int | None = None,
    timeout: float = 120,
    cwd: Path | None = None,
) -> Slow:
    """Run a program that finds folders on a slow file system, its caches cold.

    ``service`` is in microseconds, ``rate`` in MiB a second. Raises
    :class:`~support.process.Hang`, and :class:`Unavailable`.
    """
    check()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        words: list[object] = [built.slowfs(), "--service", service, "-o", file.name]
        for folder in over:
            words += ["--over", folder]
        words += [] if rate is None else ["--rate", rate]
        result = run([*words, "--", *args], env=env, timeout=timeout, cwd=cwd)
        text = Path(file.name).read_text()
    report = json.loads(text) if text else {"folders": []}
    asked = (
        Asked(Path(folder["path"]), folder["requests"], folder["bytes"], folder["names"])
        for folder in report["folders"]
    )
    return Slow(result, tuple(asked))


@functools.cache
def check() -> None:
    """Raise :class:`Unavailable` where folders can't be shown."""
    if os.geteuid() != 0:
        raise Unavailable("showing folders on a slow file system needs root")
    with tempfile.TemporaryDirectory() as folder:
        tried = run([built.slowfs(), "--over", folder, "--", "ls", folder], timeout=60)
    if tried.status != 0:
        raise Unavailable(tried.stderr.strip())
