"""The program too: root reads the modules beside it, the other ranks leave its folder alone."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import subprocess
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support import bundles, counter
from support.bundles import Runner
from support.environments import Environment
from support.mpis import Mpi
from support.process import Result, clean_environment, run
from support.pythons import Python

# Every launcher says the rank in one of these.
RANK = """\
import os
rank = int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


"""

# What programs have beside them: a module, a package, a namespace, a link, names in strings.
MODULES = {
    "helper.py": '"""About help."""\n\n\ndef helped():\n    return "helped"\n',
    "package/__init__.py": "from . import inner\n",
    "package/inner.py": "from . import deeper\n",
    "package/deeper/__init__.py": "NAME = __name__\n",
    "package/data.txt": "data\n",
    "space/leaf.py": "NAME = __name__\n",
    "by_name.py": "NAME = __name__\n",
    "real/target.py": "NAME = __name__\n",
    "computed_name.py": "NAME = __name__\n",
    "broken.py": "def inner(:\n",
    "failing.py": "def fail():\n    raise ValueError('beside')\n",
}

# Everything that the import system says of them.
FACTS = """
import importlib, inspect, json, linecache, pickle, pkgutil, sys, traceback
import helper, package.inner, space.leaf, linked, failing

importlib.import_module("by_name")
importlib.import_module("_".join(["computed", "name"]))
names = ["helper", "package", "package.inner", "package.deeper", "space", "space.leaf", "by_name",
         "computed_name", "linked", "failing"]
facts = {"path": sys.path[0]}
for name in names:
    module, spec = sys.modules[name], importlib.util.find_spec(name)
    facts[name] = [getattr(module, key, None) for key in ("__file__", "__cached__", "__package__")]
    path = getattr(module, "__path__", ())
    facts[name] += [list(path), type(path).__name__, dir(module)]
    facts[name] += [spec.name, spec.origin, spec.cached, spec.parent, spec.has_location]
    facts[name] += [list(spec.submodule_search_locations or ()), spec == module.__spec__]
facts["code"] = [helper.helped.__code__.co_filename, helper.helped.__code__.co_firstlineno]
loader = helper.__loader__
facts["loader"] = [
    isinstance(loader, importlib.machinery.SourceFileLoader), loader.name, loader.path,
    loader.get_filename("helper"), loader.is_package("helper"), loader.get_source("helper"),
    loader.get_data(helper.__file__).decode(), loader.get_code("helper").co_filename,
    loader.path_stats(helper.__file__)["size"], pickle.loads(pickle.dumps(loader)) == loader,
]
facts["inspect"] = [inspect.getsource(helper.helped), inspect.getdoc(helper)]
facts["line"] = linecache.getline(helper.__file__, 5)
facts["data"] = pkgutil.get_data("package", "data.txt").decode()
facts["listed"] = sorted(
    (found.name, found.ispkg) for path in (sys.path[:1], package.__path__)
    for found in pkgutil.iter_modules(path)
)
facts["finder"] = isinstance(pkgutil.get_importer(sys.path[0]), importlib.machinery.FileFinder)
facts["reloaded"] = importlib.reload(helper) is helper
errors = []
for name in ("absent", "package.absent", "helper.absent", "space.absent", "broken", "dangling"):
    try:
        importlib.import_module(name)
    except Exception as error:
        errors.append([type(error).__name__, str(error), getattr(error, "path", None)])
        errors.append(getattr(error, "filename", None))
try:
    failing.fail()
except ValueError:
    errors.append(traceback.format_exc())
facts["errors"] = errors
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A program's folder."""
    return made(tmp_path / "home", MODULES)


def made(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files, and links to one of them and to nothing."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if "real/target.py" in files:
        (folder / "linked.py").symlink_to("real/target.py")
        (folder / "dangling.py").symlink_to("absent.py")
    return folder


@pytest.fixture
def small_runner(small: Environment, tmp_path: Path) -> Runner:
    (tmp_path / "node").mkdir()
    return bundles.runner(small, tmp_path / "node")


def launch(runner: Runner, mpi: Mpi, *args: object, ranks: int = 2, **options) -> list[str]:
    """What the ranks of a job say, in any order."""
    return sorted(runner.launch(mpi, ranks, args, **options).check().stdout.splitlines())


@pytest.mark.parametrize("form", ["script", "module", "folder"])
def test_one_rank_alone_looks_into_the_programs_folder(
    form: str, small_runner: Runner, wheel_mpi: Mpi, home: Path, tmp_path: Path
) -> None:
    body = f"{counter.MARK}\nmark('program')\nimport plain, shapes.area\n"
    body += "import helper, package.inner, space.leaf, by_name\n"
    body += "import importlib.metadata\nassert importlib.metadata.version('plain') == '1.0'\n"
    body += "try:\n    import no_such_module\nexcept ImportError:\n    pass\n"
    (home / ("__main__.py" if form == "folder" else "app.py")).write_text(body)
    program = {"script": [home / "app.py"], "module": ["-m", "app"], "folder": [home]}[form]
    report = tmp_path / "counts.json"
    words = [*counter.command(report, [home], paths=True), wheel_mpi.mpiexec, "-n", 3]
    # `python -m` itself looks into the working folder.
    cwd = home if form == "module" else tmp_path
    env = wheel_mpi.environment(**small_runner.variables())
    run([*words, *small_runner.words(*program)], env=env, timeout=60, cwd=cwd).check()
    ranks = [
        process
        for process in counter.parse(json.loads(report.read_text()))
        if process.marked("program")
    ]
    assert len(ranks) == 3
    phases = [
        [phase for phase in process.phases if cwd == tmp_path or phase.name == "program"]
        for process in ranks
    ]
    counts = sorted(sum(phase.below[0] for phase in phases) for phases in phases)
    seen = [path for each in phases for phase in each for path in phase.paths if str(home) in path]
    assert counts[:2] == [0, 0] and counts[2] > 0, (counts, seen)


@pytest.mark.parametrize("compiled", [False, True])
def test_modules_are_what_plain_import_makes(
    compiled: bool, each_python: Python, environment, wheel_mpi: Mpi, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "node").mkdir()
    runner = bundles.runner(environment("small", each_python), tmp_path / "node")
    (home / "app.py").write_text(
        f"{RANK}{FACTS}\nopen(f'{{sys.argv[1]}}-{{rank}}.json', 'w').write(json.dumps(facts))\n"
    )
    if compiled:
        for path in home.rglob("*.py"):
            if path.exists() and path.name not in ("app.py", "broken.py"):
                run([runner.python, "-m", "py_compile", path]).check()
    plain = [runner.python, home / "app.py", home.parent / "plain"]
    run(plain, env=clean_environment()).check()
    launch(runner, wheel_mpi, home / "app.py", home.parent / "ours")
    expected = json.loads((home.parent / "plain-0.json").read_text())
    for rank in range(2):
        got = json.loads((home.parent / f"ours-{rank}.json").read_text())
        assert got == expected, rank


def test_every_form_finds_its_modules(small_runner: Runner, wheel_mpi: Mpi, home: Path) -> None:
    text = f"{RANK}import sys, helper, package.inner\nsay(sys.path[0], helper.__file__)\n"
    for name in ("app.py", "package/__main__.py", "folder/__main__.py"):
        made(home, {name: text})
    shutil.copytree(home / "package", home / "folder" / "package")
    shutil.copy(home / "helper.py", home / "folder")
    with zipfile.ZipFile(home / "app.zip", "w") as archive:
        archive.writestr("__main__.py", f"{RANK}import inside\nsay(inside.__file__)\n")
        archive.writestr("inside.py", "")
    links = home.parent / "links"
    links.mkdir()
    (links / "app.py").symlink_to(home / "app.py")
    found = f"{home} {home / 'helper.py'}"
    inside = home / "folder"

    def said(*words: object, cwd: Path = home) -> list[str]:
        return launch(small_runner, wheel_mpi, *words, cwd=cwd)

    assert said("app.py") == [found] * 2
    assert said(links / "app.py") == [found] * 2
    assert said("-m", "app") == [found] * 2
    assert said("-m", "package") == [found] * 2
    assert said(inside, cwd=links) == [f"{inside} {inside / 'helper.py'}"] * 2
    assert said("app.zip") == [str(home / "app.zip" / "inside.py")] * 2
    assert said("-c", text) == [f" {home / 'helper.py'}"] * 2
    assert small_runner.left() in bundles.CLEAN


def test_the_receipt_says_what_was_sent(
    small_runner: Runner, wheel_mpi: Mpi, home: Path, tmp_path: Path
) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (home / "package" / "native.so").write_text("no library")
    (home / "app.py").write_text(
        f"{RANK}import helper, package.inner\n__import__('computed' + '_name')\n"
        f"try:\n    import package.native  # {suffix}\nexcept ImportError:\n    say('refused')\n"
    )
    receipt = tmp_path / "receipt.json"
    words = ["--receipt", receipt, home / "app.py"]
    assert launch(small_runner, wheel_mpi, *words) == ["refused"] * 2
    report = json.loads(receipt.read_text())
    sent = report["facts"]["program_files"]
    assert sent["folder"] == str(home)
    assert (sent["files"], sent["folders"], sent["left_out"]) == (4, 3, 1)
    left = {"path": str(home / "package" / "native"), "why": "extension module"}
    assert sent["left_out_named"] == [left]
    root, other = sorted(report["nodes"][0]["ranks"], key=lambda rank: rank["rank"])
    assert root["counts"]["program_modules"] == root["counts"]["fall_through"] == 0
    assert other["counts"]["program_modules"] == 4
    fell = [str(home / "computed_name.py"), str(home / "package" / "native.so")]
    assert other["fell_through"] == fell
    shown = run([small_runner.python.parent / "pybundle", "receipt", receipt]).check().stdout
    assert "sent by root, names of 3 folders" in shown
    assert f"{left['path']}: extension module" in shown


def test_valid_bytecode_is_used_and_none_is_written(
    small_runner: Runner, wheel_mpi: Mpi, home: Path
) -> None:
    kinds = ["timed", "old", "checked", "unchecked"]
    modes = {kind: py_compile.PycInvalidationMode.TIMESTAMP for kind in kinds}
    modes["checked"] = py_compile.PycInvalidationMode.CHECKED_HASH
    modes["unchecked"] = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for kind, mode in modes.items():
        path = home / f"{kind}.py"
        path.write_text("NAME = 'compiled'\n")
        py_compile.compile(str(path), doraise=True, invalidation_mode=mode)
        before = path.stat()
        path.write_text("NAME = 'source'  \n")
        assert path.stat().st_size == before.st_size
        later = 10**9 if kind == "old" else 0
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    program = f"import {', '.join(kinds)}\n"
    program += f"say(*[module.NAME for module in ({', '.join(kinds)})])\n"
    (home / "app.py").write_text(RANK + program)
    (home / "other.py").write_text(
        f"{RANK}if rank:\n    import helper\nelse:\n    import by_name\n"
    )
    copy = shutil.copytree(home, home.parent / "copy", symlinks=True)
    plain = run([small_runner.python, copy / "app.py"], env=clean_environment()).check().stdout
    assert plain == "compiled source source compiled\n"
    assert launch(small_runner, wheel_mpi, home / "app.py") == [plain.strip()] * 2
    writes = {"PYTHONDONTWRITEBYTECODE": None}
    launch(small_runner, wheel_mpi, home / "other.py", env=writes)
    written = {path.name.partition(".")[0] for path in home.rglob("*.pyc")}
    assert written == {*kinds, "by_name"}


def test_modules_written_by_the_program_need_invalidate_caches(
    small_runner: Runner, wheel_mpi: Mpi, home: Path
) -> None:
    """Other ranks than root know the program's folder as it was at the start."""
    (home / "changed.py").write_text("NAME = 'before'\n")
    (home / "app.py").write_text(
        RANK + "import importlib, pathlib, sys, time\n"
        "home = pathlib.Path(__file__).parent\n"
        "if rank == 0:\n"
        "    (home / 'changed.py').write_text('NAME = \"changed afterwards\"\\n')\n"
        "    (home / 'written.py').write_text('NAME = \"written\"\\n')\n"
        "    (home / 'done').write_text('')\n"
        "else:\n"
        "    while not (home / 'done').exists():\n        time.sleep(0.01)\n"
        "    import changed\n"
        "    try:\n        import written\n"
        "    except ImportError as error:\n        say(changed.NAME, error)\n"
        "importlib.invalidate_caches()\n"
        "sys.modules.pop('changed', None)\n"
        "import changed, written\n"
        "say(changed.NAME, written.NAME)\n"
    )
    assert launch(small_runner, wheel_mpi, home / "app.py") == [
        "before No module named 'written'",
        "changed afterwards written",
        "changed afterwards written",
    ]


def test_ranks_of_other_programs_and_folders_read_their_own(
    small_runner: Runner, wheel_mpi: Mpi, tmp_path: Path
) -> None:
    text = f"{RANK}import beside\nsay(__name__, beside.__file__)\n"
    for name in ("first", "second"):
        made(tmp_path / name, {"app.py": text, "beside.py": ""})
    words = small_runner.words(tmp_path / "first" / "app.py")
    words += [":", "-n", 1, *small_runner.words(tmp_path / "second" / "app.py")]
    env = small_runner.variables()
    said = wheel_mpi.run(1, words, env=env, timeout=60).check().stdout.splitlines()
    each = [f"__main__ {tmp_path / name / 'beside.py'}" for name in ("first", "second")]
    assert sorted(said) == each
    # The same words in another working folder.
    folders = '[ "${PMI_RANK:-$OMPI_COMM_WORLD_RANK}" = 0 ] && cd first || cd second; exec "$@"'
    for program in (["app.py"], ["-m", "app"], ["-c", "import app"]):
        words = ["sh", "-c", folders, "sh", *small_runner.words(*program)]
        ran = wheel_mpi.run(2, words, env=env, timeout=60, cwd=tmp_path).check()
        said = [line.split()[1] for line in ran.stdout.splitlines()]
        assert sorted(said) == [line.split()[1] for line in each], program


def test_a_folder_that_is_off_the_path_stays_so(
    small_runner: Runner, wheel_mpi: Mpi, home: Path, tmp_path: Path
) -> None:
    (home / "app.py").write_text(
        f"{RANK}try:\n    import helper\nexcept ImportError:\n    say('isolated')\n"
    )
    receipt = tmp_path / "receipt.json"
    head, *tail = small_runner.words("--receipt", receipt, home / "app.py")
    words = [head, "-I", *tail]
    env = small_runner.variables()
    ran = wheel_mpi.run(2, words, env=env, timeout=60, cwd=home).check()
    assert ran.stdout.splitlines() == ["isolated"] * 2
    assert json.loads(receipt.read_text())["facts"]["program_files"] is None


def test_a_home_of_very_many_files_is_not_read(
    small_runner: Runner, wheel_mpi: Mpi, home: Path, tmp_path: Path
) -> None:
    """Every rank then looks for itself, as without us."""
    for number in range(66_000):
        os.close(os.open(home / f"output{number}", os.O_CREAT | os.O_WRONLY))
    (home / "app.py").write_text(f"{RANK}import helper\nsay(helper.__file__)\n")
    receipt = tmp_path / "receipt.json"
    words = ["--receipt", receipt, home / "app.py"]
    assert launch(small_runner, wheel_mpi, *words) == [str(home / "helper.py")] * 2
    sent = json.loads(receipt.read_text())["facts"]["program_files"]
    assert sent["files"] == 0
    assert sent["left_out_named"] == [{"path": str(home), "why": "too many names in it"}]


def test_errors_in_modules_end_the_job_as_in_python(
    small_runner: Runner, wheel_mpi: Mpi, home: Path
) -> None:
    (home / "app.py").write_text(f"{RANK}import time\nif rank:\n    import broken\ntime.sleep(9)\n")
    (home / "plainly.py").write_text("import broken\n")
    plain = run([small_runner.python, home / "plainly.py"], env=clean_environment()).check(1)
    ended: Result = small_runner.launch(wheel_mpi, 2, [home / "app.py"])
    assert ended.status == 1, str(ended)
    last = plain.stderr.splitlines()[-4:]
    assert "\n".join(last) in ended.stderr, str(ended)


def test_a_module_that_names_mpi4py_keeps_mpi(
    small_runner: Runner, wheel_mpi: Mpi, home: Path, tmp_path: Path
) -> None:
    (home / "parallel.py").write_text("def world():\n    from mpi4py import MPI\n")
    receipt = tmp_path / "receipt.json"
    modes = []
    for imported in ("parallel", "helper"):
        (home / "app.py").write_text(f"import {imported}\n")
        launch(small_runner, wheel_mpi, "--receipt", receipt, home / "app.py")
        modes.append(json.loads(receipt.read_text())["facts"]["mode"])
    assert modes == ["keep", "release"]


def test_metadata_beside_the_program_is_found(
    small_runner: Runner, wheel_mpi: Mpi, home: Path
) -> None:
    made(home, {"beside-2.0.dist-info/METADATA": "Name: beside\nVersion: 2.0\n"})
    (home / "app.py").write_text(
        f"{RANK}from importlib.metadata import version\nsay(version('beside'), version('plain'))\n"
    )
    assert launch(small_runner, wheel_mpi, home / "app.py") == ["2.0 1.0"] * 2


def test_children_import_from_the_disk(small_runner: Runner, wheel_mpi: Mpi, home: Path) -> None:
    (home / "app.py").write_text(
        f"{RANK}import multiprocessing, subprocess, sys\nimport helper\n\n\n"
        "def child():\n    import by_name\n    say(by_name.NAME, helper.helped())\n\n\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        process = multiprocessing.get_context(method).Process(target=child)\n"
        "        process.start()\n        process.join(30)\n"
        "        assert process.exitcode == 0, method\n"
        "    code = 'import by_name; print(by_name.NAME)'\n"
        "    subprocess.run([sys.executable, '-c', code], cwd=sys.path[0], check=True)\n"
    )
    expected = sorted(["by_name helped"] * 4 + ["by_name"] * 2)
    assert launch(small_runner, wheel_mpi, home / "app.py") == expected


def test_extension_modules_beside_the_program_load(
    small_runner: Runner, wheel_mpi: Mpi, home: Path
) -> None:
    source = home / "compiled.c"
    source.write_text(
        "#include <Python.h>\n"
        'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "compiled", NULL, 0, NULL};\n'
        "PyMODINIT_FUNC PyInit_compiled(void) { return PyModule_Create(&module); }\n"
    )
    include = run(
        [small_runner.python, "-c", "import sysconfig as s; print(s.get_paths()['include'])"]
    )
    library = home / "compiled.so"
    words = ["cc", "-shared", "-fPIC", f"-I{include.check().stdout.strip()}", source, "-o", library]
    subprocess.run(words, check=True)
    (home / "app.py").write_text(f"{RANK}import compiled\nsay(compiled.__file__)\n")
    assert launch(small_runner, wheel_mpi, home / "app.py") == [str(library)] * 2
