"""Files are in the tree when a program can have learned where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import bundles
from support.bundles import Runner
from support.environments import Environment
from support.process import run


@pytest.fixture
def served(small: Environment, tmp_path: Path) -> Runner:
    """The small environment's bundle, run by an interpreter that has pybundle alone."""
    return bundles.runner(small, tmp_path / "node")


def test_who_finds_a_package_finds_its_files(served):
    program = """
import importlib.util, os, sys
spec = importlib.util.find_spec("shapes")
assert "shapes" not in sys.modules
assert os.path.isfile(spec.origin)
assert os.path.isfile(os.path.join(spec.submodule_search_locations[0], "templates/square.txt"))
"""
    served.run("-c", program).check()


def test_who_finds_tests_finds_all_of_them(served):
    program = """
import importlib.util, os
spec = importlib.util.find_spec("shapes.tests")
print(*sorted(name for name in os.listdir(spec.submodule_search_locations[0]) if name[0] != "_"))
"""
    assert served.run("-c", program).check().stdout == "test_area.py\n"


def test_a_hook_that_runs_modules_itself_has_their_files(served):
    # As pytest's: it takes the spec of path-based import, reads the source and runs it.
    program = """
import importlib.machinery, importlib.util, os, sys
class Rewriting(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        with open(self.path) as file:
            exec(compile(file.read(), self.path, "exec"), vars(module))
class Hook:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:
            return None
        loader = Rewriting(name, spec.origin)
        return importlib.util.spec_from_file_location(
            name, spec.origin, loader=loader,
            submodule_search_locations=spec.submodule_search_locations)
sys.meta_path.insert(0, Hook)
import shapes
assert type(shapes.__loader__) is Rewriting
assert os.path.isfile(os.path.join(os.path.dirname(shapes.__file__), "templates/square.txt"))
"""
    served.run("-c", program).check()


def test_a_namespace_package_is_a_folder_with_all_its_parts(served):
    program = """
import os, sys, spaced
from importlib import resources
(folder,) = spaced.__path__
assert sorted(os.listdir(folder)) == ["one", "two.py"], os.listdir(folder)
assert {path.name for path in resources.files("spaced").iterdir()} == {"one", "two.py"}
"""
    served.run("-c", program).check()


def test_folders_at_the_top_are_there_from_the_start(small, tmp_path):
    # Nothing but a header below, which nobody has asked for.
    packed = small.copy(tmp_path / "env")
    header = packed.folder / "include/site/shapes/area.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define SIDES 4\n")
    record = packed.packages / "shapes-2.1.dist-info/RECORD"
    with record.open("a") as file:
        file.write("../../../include/site/shapes/area.h,,\n")
    packer = bundles.runner(small, tmp_path / "node")
    bundle = tmp_path / "env.pybundle"
    run([packer.python.with_name("pybundle"), "pack", packed.folder, "-o", bundle]).check()
    served = Runner(bundle, packer.python, tmp_path / "node")
    program = """
import os, sys
assert os.path.isdir(os.path.join(sys.prefix, "include"))
"""
    served.run("-c", program).check()


def test_a_link_is_followed_before_anything_is_placed(served: Runner) -> None:
    program = (
        "import importlib.metadata as metadata\n"
        "(file,) = [f for f in metadata.files('shapes') if f.name == 'latest.txt']\n"
        "print(file.locate().is_symlink(), file.read_text())\n"
    )
    assert served.run("-c", program).check().stdout.startswith("True ")
