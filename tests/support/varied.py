"""Makes the environment ``varied``: ``small``, and packages that ask much of an import system.

Circular and failing imports, modules that replace themselves, warnings, namespaces of the three
kinds, data beside code, a zip file on ``sys.path``, bytecode without a source, editable installs
of both styles, `pkg_resources`.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

from . import installing, small
from .paths import ROOT, TEST
from .pythons import Python

SOURCE = ROOT / "tests" / "data" / "varied"
VERSION = "2"

# Names that have to be normalised before they can be compared, with what provides them.
DISTRIBUTIONS = {
    "Circular.Things": ("1.0", ["circular"]),
    "failing_things": ("2.0rc1", ["failing", "replacing.py"]),
    "files-and-data": ("3", ["files", "portions"]),
}


def make(folder: Path, python: Python) -> None:
    """Make the environment in ``folder``."""
    small.make(folder, python)
    packages = folder / "lib" / f"python{python.minor}" / "site-packages"
    projects = shutil.ignore_patterns("projects", "extra")
    shutil.copytree(SOURCE, packages, dirs_exist_ok=True, ignore=projects)
    shutil.copytree(SOURCE / "extra", folder / "extra", dirs_exist_ok=True)
    for name, (version, files) in DISTRIBUTIONS.items():
        small.distribution(packages, name, version, files)
    _sourceless(packages, folder / "bin" / "python")
    _zipped(packages)
    # A folder in front of site-packages, as tools of the old kind have put there.
    (folder / "before").mkdir()
    (folder / "before/ahead.py").write_text("NAME = 'ahead'\n")
    line = f"import sys; sys.path.insert(0, {str(folder / 'before')!r})\n"
    (packages / "before.pth").write_text(line)
    interpreter = folder / "bin" / "python"
    installing.install(interpreter, ["setuptools<81", "cloudpickle", "dill"])
    for name in ("linked", "found"):
        # Building leaves files beside the sources.
        project = TEST / "projects" / f"{folder.name}-{name}"
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(SOURCE / "projects" / name, project)
        installing.install_editable(interpreter, project)


def _sourceless(packages: Path, interpreter: Path) -> None:
    source = packages / "sourceless.py"
    source.write_text("'''Bytecode alone.'''\n\ndef fail():\n    raise ValueError('no source')\n")
    code = "import py_compile, sys; py_compile.compile(*sys.argv[1:], doraise=True)"
    subprocess.run([interpreter, "-c", code, source, source.with_suffix(".pyc")], check=True)
    source.unlink()


def _zipped(packages: Path) -> None:
    with zipfile.ZipFile(packages / "zipped-1.0.egg", "w") as file:
        file.writestr("zipped/__init__.py", "NAME = 'zipped'\n\n\ndef where():\n    return NAME\n")
        file.writestr("zipped/data.txt", "data in a zip file\n")
        metadata = "Metadata-Version: 2.1\nName: zipped\nVersion: 1.0\n"
        file.writestr("EGG-INFO/PKG-INFO", metadata)
    (packages / "zipped.pth").write_text("./zipped-1.0.egg\n")
