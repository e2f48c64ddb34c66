"""Makes the suites of importlib_metadata and importlib_resources find their samples in the bundle.

Both write their sample packages into a temporary folder and put it on ``sys.path``: that would test
a folder outside the bundle. So the samples are written once into ``sites`` beside this file, by a
run with ``write=True`` before the environment is packed, and later runs put those folders on
``sys.path``. A test that changes its samples keeps a temporary folder of its own; which ones do is
seen by comparing the folders in the writing run.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil

SITES = pathlib.Path(__file__).parent / "sites"
CHANGING = SITES / "changing.json"


class Samples:
    """The folders of samples."""

    def __init__(self, write):
        self.write = write
        self.changing = set(json.loads(CHANGING.read_text())) if CHANGING.exists() else set()

    def folder(self, test, samples, build):
        """The folder that has these samples for this test; ``None`` if it needs its own."""
        if test.id() in self.changing:
            return None
        key = hashlib.sha256(repr(samples).encode()).hexdigest()[:12]
        folder = SITES / f"{type(test).__name__}-{key}"
        if self.write:
            if not folder.exists():
                folder.mkdir(parents=True)
                build(folder)
            before = _state(folder)
            test.addCleanup(self._look, test, folder, before, build)
        return folder

    def _look(self, test, folder, before, build):
        if _state(folder) != before:
            self.changing.add(test.id())
            CHANGING.write_text(json.dumps(sorted(self.changing)))
            shutil.rmtree(folder)
            folder.mkdir()
            build(folder)


def _state(folder):
    """Names, sizes and times of all that a test could change."""
    found = {}
    for path in folder.rglob("*"):
        if "__pycache__" not in path.parts:
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns, status.st_mode)
    return found


def use_for_metadata(samples):
    """Patch the fixtures of importlib_metadata's suite."""
    from tests import fixtures

    write_files = fixtures.SiteBuilder.setUp

    def set_up(self):
        specs = [vars(cls)["files"] for cls in type(self).mro() if "files" in vars(cls)]

        def build(folder):
            for spec in specs:
                fixtures.build_files(spec, prefix=folder)

        folder = samples.folder(self, specs, build)
        if folder is None:
            write_files(self)
        else:
            super(fixtures.SiteBuilder, self).setUp()
            self.site_dir = folder

    fixtures.SiteBuilder.setUp = set_up


def use_for_resources(samples):
    """Patch the fixtures of importlib_resources' suite."""
    from importlib_resources.tests import _path, util
    from importlib_resources.tests.compat.py39 import import_helper
    from tests.compat.py312 import isolated_modules

    # A helper of newer Pythons, which importlib_metadata's suite has for older ones.
    vars(import_helper).setdefault("isolated_modules", isolated_modules)
    write_files = util.DiskSetup.tree_on_path

    def tree_on_path(self, spec):
        folder = samples.folder(self, spec, lambda folder: _path.build(spec, folder))
        if folder is None:
            write_files(self, spec)
        else:
            self.fixtures.enter_context(import_helper.DirsOnSysPath(str(folder)))

    util.DiskSetup.tree_on_path = tree_on_path
