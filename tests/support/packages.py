"""Real packages, seen from plain files and from a bundle: which modules they have, what differs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import bundles
from .environments import Environment
from .paths import ROOT
from .process import Result, clean_environment, run

DATA = ROOT / "tests" / "data" / "packages"

# Modules that aren't imported: a package's tests, programs, and what a package's own authors keep
# beside it.
LEFT_OUT = {"__main__", "test", "tests", "testing", "_testing", "conftest", "setup", "benchmarks"}
# Facts that differ for a reason: which, and why.
EXPECTED = {
    "/modules/sysconfig/values/realpath": "sysconfig asks the index instead of the disk",
    "/modules/dill._objects/values/_filedescrip": "a descriptor's number: the image holds some",
    "/modules/scipy.sparse._data/values/name": "the last of a set that is ordered by addresses",
    "/modules/werkzeug._reloader/values/_stat_ignore_scan": "a set of paths: their hashes differ",
    "/modules/OpenSSL.debug/values/_env_info": "names sys.path, of another interpreter",
}
# A module's file: its name up to the first dot, and what comes after.
MODULE = re.compile(r"([^.]+)(\.cpython-[^.]*|\.abi3)?\.(py|so)")


@dataclass(frozen=True)
class Distribution:
    """An installed distribution and its modules, those at the top first."""

    name: str
    version: str
    modules: tuple[str, ...]

    @property
    def top(self) -> tuple[str, ...]:
        """The modules at the top."""
        return tuple(name for name in self.modules if "." not in name)


@dataclass
class Comparison:
    """What one distribution's modules showed."""

    distribution: Distribution
    imported: int
    """Modules that import from plain files."""
    seen: int
    """Modules whose facts were compared: those that they import in turn, too."""
    differences: list[str] = field(default_factory=list)
    fell_through: list[str] = field(default_factory=list)


def distributions(environment: Environment) -> list[Distribution]:
    """What is installed in an environment, by the lists of files that its installer wrote."""
    found = []
    for folder in sorted(environment.packages.glob("*.dist-info")):
        name, version = folder.name[: -len(".dist-info")].split("-", 1)
        with open(folder / "RECORD", newline="") as file:
            modules = {module for row in csv.reader(file) for module in _modules(row[0])}
        ordered = sorted(modules, key=lambda module: (module.count(".") > 0, module))
        if name != "pybundle":
            found.append(Distribution(name, version, tuple(ordered)))
    return found


def _modules(file: str) -> Iterator[str]:
    """The module that a file is, and the packages and namespaces around it."""
    *parts, last = file.split("/")
    match = MODULE.fullmatch(last)
    if match is None:
        return
    parts.append(match.group(1))
    if parts[-1] == "__init__":
        del parts[-1]
    if parts and all(part.isidentifier() for part in parts) and not LEFT_OUT & set(parts):
        for end in range(1, len(parts) + 1):
            yield ".".join(parts[:end])


@contextlib.contextmanager
def node() -> Iterator[Path]:
    """A folder for the images of large bundles: in memory, where they are gigabytes fast."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


class Looker:
    """Looks at modules both ways; the bundle's image stays on the node in between."""

    def __init__(self, environment: Environment, folder: Path, node_dir: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.runner = bundles.runner(environment, node_dir)

    def compare(self, distribution: Distribution, deep: bool = True) -> Comparison:
        """Import a distribution's modules both ways and compare all that can be seen."""
        names = distribution.modules if deep else distribution.top
        plain = self._plain(names)
        packed, fell_through = self._packed(names)
        different = differences(plain, packed)
        if different:
            # What differs between two plain runs as well is chance.
            chance = {key for key, _ in differences(plain, self._plain(names))}
            different = [pair for pair in different if pair[0] not in chance]
        different = [pair for pair in different if pair[0] not in EXPECTED]
        outcomes = plain.get("outcomes", {}).values()
        return Comparison(
            distribution,
            sum(outcome == "imported" for outcome in outcomes),
            len(plain.get("modules", ())),
            [f"{key}: {text}" for key, text in different],
            fell_through,
        )

    def _plain(self, names: tuple[str, ...]) -> dict[str, Any]:
        return self._ask([self.environment.python], names, clean_environment(**self._variables()))

    def _packed(self, names: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
        receipt = self.folder / f"receipt-{os.getpid()}-{id(names)}.json"
        env = self.runner.variables({**self._variables(), "PYBUNDLE_RECEIPT": str(receipt)})
        words = self.runner.words("--keep")
        answer = self._ask(words, names, clean_environment(**env))
        return answer, fallen_through(receipt)

    def _variables(self) -> dict[str, str]:
        """What keeps programs from writing into the user's own folders, and runs alike."""
        return {
            "HOME": str(self.home),
            "MPLBACKEND": "agg",
            "PYTHONHASHSEED": "0",
            "TZ": "UTC",
        }

    def _ask(self, words: list[object], names: tuple[str, ...], env: dict[str, str]) -> Any:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            question, answer = Path(folder, "question.json"), Path(folder, "answer.json")
            question.write_text(json.dumps(names))
            result = run([*words, DATA / "look.py", question, answer], env=env, timeout=600)
            told = json.loads(answer.read_text()) if answer.exists() else {}
        return {**told, "end": ending(result)}


def ending(result: Result) -> list[object]:
    """How a program ended; what it said if that was badly."""
    return [result.status, result.stderr[-2000:] if result.status else ""]


def fallen_through(receipt: Path) -> list[str]:
    """The paths that a run's imports found on the disk; removes the receipt."""
    if not receipt.exists():
        return ["no receipt"]
    ranks = [rank for node in json.loads(receipt.read_text())["nodes"] for rank in node["ranks"]]
    receipt.unlink()
    paths = [path for rank in ranks for path in rank["fell_through"]]
    count = sum(rank["counts"]["fall_through"] for rank in ranks)
    return paths if len(paths) == count else [*paths, f"{count - len(paths)} more"]


def differences(plain: dict[str, Any], packed: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of a fact's name and both its values, for every fact that isn't the same."""
    before = {*plain.get("before", ()), *packed.get("before", ())}
    for answer in (plain, packed):
        # Modules of the standard library that only one of the two starts with.
        answer["modules"] = {k: v for k, v in answer.get("modules", {}).items() if k not in before}
        answer["added"] = [name for name in answer.get("added", ()) if name not in before]
    ignored = {"before"}
    return list(_differences("", {k: plain[k] for k in plain if k not in ignored}, packed))


def _differences(key: str, plain: Any, packed: Any) -> Iterator[tuple[str, str]]:
    if isinstance(plain, dict) and isinstance(packed, dict):
        for name in plain:
            yield from _differences(f"{key}/{name}", plain[name], packed.get(name, "absent"))
        if key:
            for name in packed:
                if name not in plain:
                    yield f"{key}/{name}", "only from the bundle"
    elif plain != packed:
        if isinstance(plain, list) and isinstance(packed, list):
            # Texts of what each has alone; the order, if that is all.
            alone = [part for part in plain if part not in packed]
            other = [part for part in packed if part not in plain]
            if alone or other:
                plain, packed = alone, other
        yield key, f"{str(plain)[:600]} -> {str(packed)[:600]}"
