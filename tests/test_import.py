"""Imports from a bundle give what plain imports give, and don't look at the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import built, bundles, installing
from support.bundles import Runner
from support.counter import MARK, Phase
from support.environments import Environment
from support.process import clean_environment, run

# What a program can see of every module that it can import, with the environment's folder masked.
SHOW = r"""
import importlib, importlib.machinery, importlib.metadata, importlib.util, json, pkgutil, re, sys
import traceback

# Programs, tests, and what each of the two interpreters has of its own.
SKIPPED = {"__main__", "test", "tests", "testing", "conftest", "setup", "pybundle", "_virtualenv"}
output, sys.stdout = sys.stdout, sys.stderr

def is_skipped(name):
    return bool(SKIPPED & set(name.split(".")))

def mask(value):
    if isinstance(value, str):
        value = value.replace(sys.prefix, "ENV").replace(sys.base_prefix, "BASE")
        return re.sub(r"ENV/META-INF/pybundle/roots/\d+(?=/lib/python)", "BASE", value)
    if isinstance(value, (list, tuple)):
        return [mask(part) for part in value]
    return value

def seen(module):
    spec, loader = module.__spec__, module.__loader__
    facts = {
        "type": type(module).__name__,
        "names": sorted(set(vars(module)) - {"__warningregistry__"}),
        "attributes": {name: mask(getattr(module, name, "absent")) for name in (
            "__name__", "__package__", "__file__", "__cached__", "__doc__")},
        "path": mask(list(getattr(module, "__path__", ["absent"]))),
        "repr": mask(repr(module)) if hasattr(module, "__file__") else "",
    }
    if spec is not None:
        facts["spec"] = mask([spec.name, spec.origin, spec.cached, spec.parent, spec.has_location])
        facts["spec loader"] = spec.loader is loader
        facts["search"] = mask(list(spec.submodule_search_locations or ["absent"]))
    if isinstance(loader, importlib.machinery.SourceFileLoader):
        name = spec.name
        facts["source"] = loader.get_source(name)
        facts["data"] = len(loader.get_data(loader.path))
        facts["stats"] = loader.path_stats(loader.path)["size"]
        code = loader.get_code(name)
        facts["code"] = mask([code.co_filename, code.co_names, code.co_firstlineno])
    for kind in ("SourceFileLoader", "ExtensionFileLoader", "SourcelessFileLoader"):
        if isinstance(loader, getattr(importlib.machinery, kind)):
            facts["loader"] = [kind, mask(loader.get_filename(spec.name))]
            facts["package"] = loader.is_package(spec.name)
    return facts

folders = [path for path in sys.path if path.startswith(sys.prefix) and "META-INF" not in path]
listed = sorted((m.name, m.ispkg) for m in pkgutil.walk_packages(folders, onerror=lambda name: 0))
failed = {}
for name in [name for name, _ in listed] + sys.argv[1:]:
    if not is_skipped(name):
        try:
            importlib.import_module(name)
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            failed[name] = mask([
                *([f.filename, f.lineno, f.name] for f in frames if "importlib" not in f.filename),
                *traceback.format_exception_only(type(error), error)])
modules = {
    name: seen(module)
    for name, module in sorted(sys.modules.items())
    if type(module) is type(sys) and mask(str(getattr(module, "__file__", ""))).startswith("ENV")
    and not is_skipped(name)
}
distributions = sorted(
    (found.metadata["Name"], found.version, found.read_text("RECORD"))
    for found in importlib.metadata.distributions() if found.metadata["Name"] != "pybundle")
print(json.dumps({
    "listed": [pair for pair in listed if not is_skipped(pair[0])],
    "failed": failed,
    "modules": modules,
    "distributions": distributions,
}), file=output)
"""


@pytest.fixture
def served(small: Environment, tmp_path: Path) -> Runner:
    """The small environment's bundle, run by an interpreter that has pybundle alone."""
    return bundles.runner(small, tmp_path / "node")


def own(environment: Environment, node_dir: Path) -> Runner:
    """An environment's bundle, run by its own interpreter."""
    return Runner(bundles.bundle(environment), environment.python, node_dir)


def plain(environment: Environment, *args: object, **extra: str) -> str:
    """What a program prints when the environment's own interpreter runs it from files."""
    return run([environment.python, *args], env=clean_environment(**extra)).check().stdout


def assert_same(expected: dict[str, Any], got: dict[str, Any]) -> None:
    """Compare two outputs of SHOW, naming the first module that differs."""
    for part in ("listed", "distributions", "failed"):
        assert got[part] == expected[part]
    assert list(got["modules"]) == list(expected["modules"])
    for name, facts in expected["modules"].items():
        assert got["modules"][name] == facts, name


@pytest.fixture
def show(tmp_path: Path) -> Path:
    """The program that looks at everything."""
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    return script


def test_modules_are_what_plain_import_makes(each_python, environment, show, tmp_path):
    packed = environment("small", each_python)
    more = ["spaced.one", "spaced.two", "shapes.__init__", "no_such_module", "shapes.absent"]
    more += ["shapes/area", "shapes.", "spaced/one", "plain.py", "plain/"]
    expected = json.loads(plain(packed, show, *more))
    assert {"plain", "fast._fast", "spaced.two"} <= set(expected["modules"])
    assert {"shapes.old", "no_such_module", "shapes/area"} <= set(expected["failed"])
    served = bundles.runner(packed, tmp_path / "node")
    got = json.loads(served.run(show, *more).check().stdout)
    assert_same(expected, got)


def test_modules_of_real_packages_are_what_plain_import_makes(python, environment, show, tmp_path):
    packed = environment("core", python)
    expected = json.loads(plain(packed, show))
    assert len(expected["modules"]) > 300
    for served in (bundles.runner(packed, tmp_path / "node"), own(packed, tmp_path / "node")):
        got = json.loads(served.run(show).check().stdout)
        assert_same(expected, got)


def counted(count, served: Runner, program: Path, below: Path) -> list[Phase]:
    """The phase `imports` of a program under the counter, of all its processes."""
    env = clean_environment(**served.variables())
    counts = count(served.words(program), below=[below], paths=True, env=env)
    counts.result.check()
    return [process.phase("imports") for process in counts.with_phase("imports")]


def test_a_pure_module_costs_no_operation_anywhere(count, small, served, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        # The standard library isn't in the bundle, and a group is placed before its first module.
        MARK + "import math, shapes\nmark('imports')\n"
        "import shapes.area.round, shapes.cli, plain\nmark('end')\n"
    )
    (phase,) = counted(count, served, program, small.folder)
    assert phase.operations == 0, phase.paths


def test_nothing_looks_at_the_environment(count, environment, python, tmp_path):
    packed = environment("core", python)
    program = tmp_path / "program.py"
    program.write_text(
        MARK + "mark('imports')\nimport numpy, h5py, yaml, requests, importlib.metadata\n"
        "import sysconfig; sysconfig.get_paths()\n"
        "try:\n    import no_such_module\nexcept ImportError:\n    pass\n"
        "assert importlib.metadata.version('numpy') == numpy.__version__\nmark('end')\n"
    )
    for served in (bundles.runner(packed, tmp_path / "node"), own(packed, tmp_path / "node")):
        for phase in counted(count, served, program, packed.folder):
            assert phase.below == [0], phase.paths


def test_code_comes_from_memory(served, tmp_path):
    # With every source of the tree replaced: a copied folder can't pass.
    program = """
import os, pkgutil, sys
folders = [path for path in sys.path if path.startswith(sys.prefix) and "META-INF" not in path]
names = [m.name for m in pkgutil.iter_modules(folders) if m.name not in ("pybundle",)]
for name in names:
    spec = __import__("importlib.util").util.find_spec(name)
    if spec.loader is not None and spec.has_location:
        spec.loader.get_resource_reader(name)
replaced = 0
for folder, _, files in os.walk(sys.prefix):
    for file in files:
        if file.endswith(".py"):
            os.chmod(folder, 0o700)
            path = os.path.join(folder, file)
            os.unlink(path)
            with open(path, "w") as text:
                text.write("raise SystemExit('read from disk')")
            replaced += 1
assert replaced > 5, replaced
import beside, plain, shapes.area.round, shapes.cli, spaced.one, spaced.two
print(shapes.square(3))
"""
    assert served.run("-c", program).check().stdout == "9\n"


def test_no_python_function_of_ours_runs(served):
    program = """
import os, sys
seen = []
def profile(frame, event, _):
    if event == "call":
        seen.append((frame.f_code.co_filename, frame.f_code.co_name))
import math, pathlib, pkgutil  # The standard library isn't in the bundle.
sys.setprofile(profile)
import plain, shapes.area.round, shapes.cli, shapes.resources, fast, beside
sys.setprofile(None)
assert seen
assert not [call for call in seen if "pybundle" in call[0] and not call[0].startswith(sys.prefix)]
# importlib's own functions make the module, none of them looks for it or reads it.
reading = {"get_code", "get_data", "path_stats", "_path_stat", "exec_module", "cache_from_source",
           "create_module", "_path_join", "_compile_bytecode", "source_to_code"}
assert not reading & {name for file, name in seen if "importlib" in file}, seen
"""
    served.run("-c", program).check()


def test_original_paths_stay_claimed(small, served):
    program = """
import importlib.machinery, os, sys
original = sys.argv[1]
for folder in (original, original + "/", original + "/../site-packages", sys.argv[2]):
    spec = importlib.machinery.PathFinder.find_spec("plain", [folder])
    assert spec.origin.startswith(sys.prefix), (folder, spec)
    spec = importlib.machinery.PathFinder.find_spec("no_such_module", [folder])
    assert spec is None, spec
# A package that was imported before us keeps its path.
import shapes
shapes.__path__ = [original + "/shapes"]
import shapes.area.round
assert shapes.area.__file__.startswith(sys.prefix)
assert not any(path.startswith(sys.argv[3]) for path in sys.path)
"""
    through_link = small.folder / "lib64" / small.packages.relative_to(small.folder / "lib")
    if not through_link.exists():
        through_link = small.packages
    served.run("-c", program, small.packages, through_link, small.folder).check()


def test_pth_files_did_what_site_does(small, served):
    program = "import plain, beside, sys; print(plain.HOOKS, beside.__file__[len(sys.prefix):])"
    assert served.run("-c", program).check().stdout == "['hook.pth'] /extra/beside.py\n"


def test_hooks_that_rewrite_sources_find_them(served):
    program = """
import importlib.machinery as machinery, math, sys
class Rewriting(machinery.SourceFileLoader):
    def get_code(self, name):
        return self.source_to_code(b"REWRITTEN = True\\n" + self.get_data(self.path), self.path)
hook = machinery.FileFinder.path_hook((Rewriting, [".py"]))
sys.path_hooks.insert(0, hook)
sys.path_importer_cache.clear()
import shapes.area.round
assert shapes.REWRITTEN and shapes.area.round.REWRITTEN
sys.path_hooks.remove(hook)
sys.path_importer_cache.clear()
import spaced.one
assert not hasattr(spaced.one, "REWRITTEN")
# As a subclass of our own loader, and in front of everything.
own = type(spaced.one.__loader__)
class Own(own):
    def source_to_code(self, data, path, **options):
        return super().source_to_code(data + b"\\nOWN = True\\n", path, **options)
class Front:
    def find_spec(self, name, path=None, target=None):
        spec = machinery.PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, machinery.SourceFileLoader) and name == "spaced.two":
            spec.loader = Own(spec.loader.name, spec.loader.path)
        return spec
sys.meta_path.insert(0, Front())
import spaced.two
assert spaced.two.OWN
"""
    served.run("-c", program).check()


def test_the_bundle_opens_when_caches_are_invalidated(small, tmp_path):
    packed = small.copy(tmp_path / "env")
    bundle = tmp_path / "env.pybundle"
    packer = bundles.runner(small, tmp_path / "node")
    run([packer.python.with_name("pybundle"), "pack", packed.folder, "-o", bundle]).check()
    served = Runner(bundle, packer.python, tmp_path / "node")
    program = """
import importlib, sys
with open(sys.argv[1], "w") as file:
    file.write("MADE = True")
try:
    import made_late
except ImportError:
    importlib.invalidate_caches()
    import made_late
    print(made_late.__file__)
"""
    late = packed.packages / "made_late.py"
    receipt = tmp_path / "receipt.json"
    env = {"PYBUNDLE_RECEIPT": str(receipt)}
    assert served.run("-c", program, late, env=env).check().stdout == f"{late}\n"
    (rank,) = json.loads(receipt.read_text())["nodes"][0]["ranks"]
    assert rank["counts"]["fall_through"] == 1
    assert rank["fell_through"] == [str(late)]


def test_a_program_inside_the_environment_keeps_its_files(small, tmp_path):
    packed = small.copy(tmp_path / "env")
    bundle = tmp_path / "env.pybundle"
    packer = bundles.runner(small, tmp_path / "node")
    (packed.folder / "app").mkdir()
    run([packer.python.with_name("pybundle"), "pack", packed.folder, "-o", bundle]).check()
    served = Runner(bundle, packer.python, tmp_path / "node")
    # Written after packing.
    (packed.folder / "app/helper").mkdir()
    (packed.folder / "app/helper/__init__.py").write_text("from . import inner\n")
    (packed.folder / "app/helper/inner.py").write_text("")
    for folder in ("app", "."):
        script = packed.folder / folder / "program.py"
        script.write_text("import sys, plain\nprint(plain.__file__.startswith(sys.prefix))\n")
        if folder == "app":
            with script.open("a") as file:
                file.write("import helper\nprint(helper.inner.__file__)\n")
        lines = served.run(script).check().stdout.splitlines()
        assert lines[0] == "True"
        assert lines[1:] in ([], [str(packed.folder / "app/helper/inner.py")])


def test_variables_that_name_packed_files_are_redirected(small, served, tmp_path):
    folder = small.packages / "shapes/templates"
    env = {
        "SSL_CERT_FILE": str(folder / "square.txt"),
        "PROJ_DATA": f"/nowhere:{folder}",
        "GDAL_DATA": "/nowhere",
        "PYBUNDLE_RECEIPT": str(tmp_path / "receipt.json"),
    }
    program = """
import ctypes, os, sys
certificate, proj = os.environ["SSL_CERT_FILE"], os.environ["PROJ_DATA"]
assert certificate.startswith(sys.prefix) and os.path.isfile(certificate), certificate
assert proj.startswith("/nowhere:" + sys.prefix), proj
assert os.listdir(proj.split(":")[1])
assert os.environ["GDAL_DATA"] == "/nowhere"
get = ctypes.CDLL(None).getenv
get.restype = ctypes.c_char_p
assert get(b"SSL_CERT_FILE").decode() == certificate
"""
    served.run("-c", program, env=env).check()
    redirected = json.loads((tmp_path / "receipt.json").read_text())["facts"]["redirected"]
    assert sorted(redirected) == ["PROJ_DATA", "SSL_CERT_FILE"]


def test_another_build_keeps_its_own_standard_library(small, served, tmp_path):
    other = next(
        (
            path
            for path in (Path(f"/usr/bin/python{small.base.minor}"),)
            if path.exists() and path.resolve() != small.base.executable.resolve()
        ),
        None,
    )
    if other is None:
        pytest.skip(f"no second build of CPython {small.base.minor} on this machine")
    folder = tmp_path / "other"
    run([other, "-m", "venv", "--without-pip", folder], timeout=60).check()
    installing.install(folder / "bin" / "python", [built.wheel()])
    receipt = tmp_path / "receipt.json"
    program = "import json, plain; print(json.__file__, plain.__file__)"
    env = {"PYBUNDLE_RECEIPT": str(receipt)}
    runner = Runner(served.bundle, folder / "bin" / "python", served.node_dir)
    standard, package = runner.run("-c", program, env=env).check().stdout.split()
    assert "/tree/" not in standard and "/tree/" in package
    said = json.loads(receipt.read_text())["facts"]["standard_library"]
    assert "another build" in said
    runner.run("-c", program, env=env).check()
    served.run("-c", program, env=env).check()
    assert json.loads(receipt.read_text())["facts"]["standard_library"] == "from the bundle"


def test_tests_of_the_standard_library_are_where_they_were(small: Environment, served: Runner):
    served.node_dir.mkdir()
    line = (
        "import ctypes, importlib.util, os, pkgutil, unittest\n"
        "folders = [os.path.dirname(os.__file__)], ctypes.__path__, unittest.__path__\n"
        "print([[(m.name, m.ispkg) for m in pkgutil.iter_modules(f)] for f in folders])\n"
        "found = [importlib.util.find_spec(name) for name in ('test', 'test.support')]\n"
        "print([spec and spec.origin for spec in found])\n"
    )
    assert served.run("-c", line).check().stdout == plain(small, "-c", line)
