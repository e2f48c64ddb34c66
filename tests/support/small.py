"""Makes the environment ``small``: what real environments hold, in about thirty files.

A module, a package with data and a link, a namespace package of two distributions, an extension
module with a library of its own beside it, ``.pth`` files with a path and with an import, entry
points, a source that doesn't compile, valid and missing bytecode, a name that isn't ASCII.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
from pathlib import Path

from . import installing
from .paths import ROOT
from .pythons import Python

SOURCE = ROOT / "tests" / "data" / "small"
VERSION = "1"

ENTRY_POINTS = """\
[console_scripts]
shapes-area = shapes.cli:main

[small.plugins]
square = shapes.area:square
circle = shapes.area.round:circle
"""


def make(folder: Path, python: Python) -> None:
    """Make the environment in ``folder``."""
    interpreter = installing.create(folder, python)
    packages = folder / "lib" / f"python{python.minor}" / "site-packages"
    shutil.copy(SOURCE / "plain.py", packages)
    distribution(packages, "plain", "1.0", ["plain.py"])
    shutil.copytree(SOURCE / "shapes", packages / "shapes")
    (packages / "shapes/templates/latest.txt").symlink_to("square.txt")
    (packages / "shapes/data-\u00e4.csv").write_text("side,area\n2,4\n")
    # One source doesn't compile: the status says so, and that is as it should be.
    subprocess.run([interpreter, "-m", "compileall", "-qq", packages / "shapes"], check=False)
    script = folder / "bin" / "shapes-area"
    script.write_text(f"#!{interpreter}\nfrom shapes.cli import main\nraise SystemExit(main())\n")
    script.chmod(0o755)
    files = ["shapes", "../../../bin/shapes-area"]
    distribution(packages, "shapes", "2.1", files, ENTRY_POINTS)
    for part in ("one", "two"):
        shutil.copytree(SOURCE / f"spaced-{part}", packages, dirs_exist_ok=True)
    distribution(packages, "spaced-one", "0.1", ["spaced/one"])
    distribution(packages, "spaced-two", "0.2", ["spaced/two.py"])
    _fast(packages, interpreter)
    distribution(packages, "fast", "3.0", ["fast", "fast.libs"])
    shutil.copytree(SOURCE / "extra", folder / "extra")
    (packages / "extra.pth").write_text("../../../extra\n# a comment\nno-such-folder\n")
    (packages / "hook.pth").write_text("import plain; plain.HOOKS.append('hook.pth')\n")


def _fast(packages: Path, interpreter: Path) -> None:
    """An extension that finds its library through RUNPATH, as repaired wheels do."""
    ask = "import sysconfig as s; print(s.get_path('include'), s.get_config_var('EXT_SUFFIX'))"
    answer = subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, check=True)
    include, suffix = answer.stdout.split()
    libraries = packages / "fast.libs"
    libraries.mkdir()
    shutil.copytree(SOURCE / "fast", packages / "fast", ignore=shutil.ignore_patterns("*.c"))
    compile = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC"]
    library = libraries / "libtally-1f2e.so.1"
    subprocess.run(
        [*compile, SOURCE / "fast/tally.c", "-o", library, f"-Wl,-soname,{library.name}"],
        check=True,
    )
    stub = [SOURCE / "fast/_fast.c", f"-I{include}", library, "-Wl,-rpath,$ORIGIN/../fast.libs"]
    subprocess.run([*compile, *stub, "-o", packages / "fast" / f"_fast{suffix}"], check=True)


def distribution(
    packages: Path, name: str, version: str, files: list[str], entry_points: str = ""
) -> None:
    """Write a distribution's metadata with a complete RECORD."""
    folder = packages / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: small\n"
    (folder / "METADATA").write_text(metadata)
    (folder / "INSTALLER").write_text("tests\n")
    if entry_points:
        (folder / "entry_points.txt").write_text(entry_points)
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for top in (*files, folder.name):
        path = packages / top
        members = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for member in members:
            data = member.read_bytes()
            sum = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            writer.writerow([os.path.relpath(member, packages), f"sha256={sum}", len(data)])
    writer.writerow([f"{folder.name}/RECORD", "", ""])
    (folder / "RECORD").write_text(rows.getvalue())
