"""What is measured: environments, their bundles, and the variables of who runs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support import bundles, installing
from support.environments import Environment, environment
from support.paths import TEST
from support.process import clean_environment, run
from support.pythons import main_python

MB = 1_000_000


def usual(**extra: str) -> dict[str, str]:
    """The environment of who has set nothing: Python keeps the bytecode that it makes."""
    return clean_environment(PYTHONDONTWRITEBYTECODE=None, **extra)


def packed(name: str, folder: Path) -> tuple[Environment, Path]:
    """An environment and its bundle, packed once."""
    found, bundle = environment(name, main_python()), folder / f"{name}.pybundle"
    if not bundle.exists():
        run([found.pybundle, "pack", found.folder, "-o", bundle], timeout=300).check()
    bundles.settle(bundle)
    return found, bundle


@contextlib.contextmanager
def heavy(size: int, longest: int) -> Iterator[Path]:
    """A bundle of the module ``tiny`` and of random files of so many bytes together: two below the
    package ``placed``, the others below ``large``. On disk: memory is for what is measured.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TEST) as name:
        made, bundle = Path(name) / "env", Path(name) / "bundle" / "env.pybundle"
        installing.create(made, main_python())
        (packages,) = made.glob("lib/python3*/site-packages")
        (packages / "tiny.py").write_text("")
        for package in ("large", "placed"):
            (packages / package).mkdir()
            (packages / package / "__init__.py").write_text("")
        for number, at in enumerate(range(0, size, longest)):
            package = "placed" if number < 2 else "large"
            with open(packages / package / f"{number}.bin", "wb") as file:
                for _ in range(0, min(longest, size - at), MB):
                    file.write(os.urandom(MB))
        bundle.parent.mkdir()
        packer = environment("runner", main_python()).pybundle
        words = [packer, "pack", made, "--level", "1", "--no-stdlib", "-o", bundle]
        run(words, timeout=300).check()
        # No way back to it.
        shutil.rmtree(made)
        bundles.settle(bundle)
        yield bundle
