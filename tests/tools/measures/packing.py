"""Packing: time and size, beside what people do without it."""

from __future__ import annotations

import shutil
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from support import installing
from support.environments import Environment
from support.paths import TEST
from support.process import run

from .subjects import MB, usual
from .times import timed

PYCACHE = "__pycache__"


def packing(w3: Environment) -> None:
    """One run on one copy of an environment, on disk, its files read before."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TEST) as name:
        folder = Path(name)
        subject = w3.copy(folder / "env")
        files = [path for path in subject.folder.rglob("*") if path.is_file()]
        sources = [path for path in files if PYCACHE not in path.parts]
        size = sum(path.stat().st_size for path in sources)
        for path in files:
            path.read_bytes()
        print(f"\npacking {size / MB:.0f} MB in {len(sources):,} files       wall s  CPU s      MB")
        env = usual(XDG_CACHE_HOME=str(folder / "cache"))
        bundle = folder / "env.pybundle"
        pack = [w3.pybundle, "pack", subject.folder, "--json", "-o", bundle]
        _row("pybundle pack, valid bytecode", pack, bundle, env)
        _row("  again, nothing changed", pack, bundle, env)
        module = subject.packages / "scipy" / "stats" / "_stats_py.py"
        module.write_text(module.read_text() + "\n# A line more.\n")
        _row("  again, a module of scipy changed", pack, bundle, env)
        data = subject.packages / "numpy" / "py.typed"
        data.write_text("changed\n")
        _row("  again, a data file changed", pack, bundle, env)
        installing.install(subject.python, ["tomli"])
        _row("  again, a package added", pack, bundle, env)
        shutil.rmtree(folder / "cache")
        _row("  again, times unknown", pack, bundle, env)
        for level in (1, 3, 6, 9, 12, 15):
            other = folder / f"{level}.pybundle"
            words = [*pack[:-1], other, "--level", level]
            _row(f"pybundle pack --level {level}", words, other, env)
            other.unlink()
        other = folder / "alone.pybundle"
        words = [*pack[:-1], other, "--no-stdlib"]
        _row("pybundle pack --no-stdlib", words, other, env)
        _others(subject, folder, env)
        for path in subject.folder.rglob(PYCACHE):
            shutil.rmtree(path)
        bundle.unlink()
        _row("pybundle pack, no bytecode", pack, bundle, env)
        print("  archives hold the environment as it lies, with bytecode, without standard library")
        print("  budgets for 483 MB: 10 s with bytecode, 18 s without, 1 s after one changed file;")
        print("  no larger than the squashfs image")


def _others(subject: Environment, folder: Path, env: dict[str, str]) -> None:
    """Archives of the same environment."""
    top = subject.folder
    ways: dict[str, tuple[str, list[object]]] = {
        "tar | zstd -T0": ("tar.zst", ["tar", "-I", "zstd -T0", "-C", top.parent, "-cf"]),
        "tar | gzip": ("tar.gz", ["tar", "-C", top.parent, "-czf"]),
        "zip": ("zip", ["zip", "-qry"]),
        "mksquashfs -comp zstd": ("sqfs", ["mksquashfs", top]),
        "venv-pack": ("venv.tar.gz", ["venv-pack", "-q", "-p", top, "-o"]),
    }
    maker = folder / "maker"
    venv.create(maker, with_pip=True)
    run([maker / "bin/pip", "install", "-q", "venv-pack", "setuptools<80"], timeout=300)
    for name, (ending, words) in ways.items():
        output = folder / f"other.{ending}"
        program = shutil.which(str(words[0]), path=f"{maker / 'bin'}:{env['PATH']}")
        if program is None:
            print(f"  {name:34} (not on this machine)")
            continue
        last = {
            "sqfs": [output, "-comp", "zstd", "-no-progress", "-quiet"],
            "venv.tar.gz": [output],
            "zip": [output, top],
        }.get(ending, [output, top.name])
        _row(name, [program, *words[1:], *last], output, env)
        output.unlink()


def _row(name: str, words: Sequence[object], output: Path, env: dict[str, str]) -> None:
    cost = timed(words, env)
    size = output.stat().st_size / MB
    print(f"  {name:34}{cost.wall:8.1f} {cost.cpu:6.1f} {size:7.1f}", flush=True)
