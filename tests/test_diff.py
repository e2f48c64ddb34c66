"""What changed in an environment since it was packed: `pybundle diff`, and the line of a load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import counter, installing, wheels
from support.bundles import PackedRunner, Runner
from support.environments import Environment
from support.process import Result, clean_environment, run

OPTIONS = {
    "as it is": [],
    "without the standard library": ["--no-stdlib"],
    "with globs": ["--exclude", "shapes", "--exclude", "extra/*.py", "--exclude", "*.csv"],
}


@dataclass(frozen=True)
class Packed:
    """An environment that may be changed, and the bundle of it as it was."""

    environment: Environment
    bundle: Path
    command: Path

    @property
    def folder(self) -> Path:
        return self.environment.folder

    @property
    def site(self) -> str:
        """Its site-packages, as a path in the bundle."""
        return self.environment.packages.relative_to(self.folder).as_posix()

    def pack(self, *words: object) -> Packed:
        """Pack it as it is now."""
        line = [self.command, "pack", self.folder, "--level", "1", "-o", self.bundle, *words]
        run(line, timeout=110).check()
        return self

    def diff(self, *words: object) -> Result:
        return run([self.command, "diff", self.bundle, self.folder, *words])

    def is_unchanged(self) -> None:
        result = self.diff("--files").check(0)
        assert (result.stdout, result.stderr) == ("", "")

    def changes(self) -> list[str]:
        """What is printed with `--files` where there are differences."""
        result = self.diff("--files").check(1)
        assert result.stderr == ""
        return result.stdout.splitlines()


@pytest.fixture(scope="module")
def whole(small: Environment, runner: Environment, tmp_path_factory) -> Packed:
    """The small environment, packed with the standard library."""
    folder = tmp_path_factory.mktemp("whole")
    return Packed(small, folder / "env.pybundle", runner.pybundle).pack()


@pytest.fixture
def packed(whole: Packed, tmp_path: Path) -> Packed:
    """The same bundle, and a copy of the environment."""
    return Packed(whole.environment.copy(tmp_path / "env"), whole.bundle, whole.command)


def test_what_was_packed_is_what_is_there(whole, packed):
    whole.is_unchanged()
    # A copy elsewhere is no other environment.
    packed.is_unchanged()
    assert json.loads(packed.diff("--json").check(0).stdout)["distributions"] == []


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_caches_of_imports_do_not_count(options, whole, packed, tmp_path):
    packed = Packed(packed.environment, tmp_path / "own.pybundle", packed.command).pack(*options)
    for cache in packed.folder.rglob("__pycache__"):
        shutil.rmtree(cache)
    packed.is_unchanged()
    # Python writes bytecode here, and numba's files are beside it.
    code = "import plain, shapes.area.round, shapes.cli, spaced.one, spaced.two, fast"
    env = clean_environment(PYTHONDONTWRITEBYTECODE=None)
    run([packed.environment.python, "-c", code], env=env).check()
    caches = list(packed.environment.packages.rglob("__pycache__"))
    assert len(caches) > 2
    for cache in caches:
        (cache / "plain.area-1.py311.nbi").write_text("index")
    packed.is_unchanged()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_options_of_the_packing_hold(options, packed, tmp_path):
    """What was left out may come and go; what was not may not."""
    packed = Packed(packed.environment, tmp_path / "own.pybundle", packed.command).pack(*options)
    packages = packed.environment.packages
    (packages / "shapes" / "more.csv").write_text("1\n")
    (packages / "loose.csv").write_text("1\n")
    (packages / "loose.txt").write_text("1\n")
    expected = {f"+ {packed.site}/loose.txt"}
    if "shapes" not in options:
        expected |= {f"+ {packed.site}/loose.csv", f"+ {packed.site}/shapes/more.csv"}
    assert {line for line in packed.changes() if line[0] in "+-~"} == expected


def test_a_bundle_in_its_environment_is_none_of_it(packed):
    inside = Packed(packed.environment, packed.folder / "env.pybundle", packed.command)
    inside.pack().is_unchanged()


def test_a_changed_byte_is_seen_whatever_size_and_time_say(packed):
    path = packed.environment.packages / "plain.py"
    text, stat = path.read_bytes(), path.stat()
    path.write_bytes(text[:-2] + b"#\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and path.read_bytes() != text
    assert packed.changes() == ["plain 1.0: 1 changed", f"~ {packed.site}/plain.py"]
    path.write_bytes(text)
    packed.is_unchanged()


def test_a_changed_library_is_seen(packed):
    """By its last byte, which nothing else of it depends on."""
    (path,) = (packed.environment.packages / "fast.libs").iterdir()
    text = path.read_bytes()
    path.write_bytes(text[:-1] + bytes([text[-1] ^ 1]))
    assert packed.changes()[1:] == [f"~ {packed.site}/fast.libs/{path.name}"]


def test_modes_links_and_kinds(packed):
    packages = packed.environment.packages
    (packages / "plain.py").chmod(0o755)
    link = packages / "shapes/templates/latest.txt"
    link.unlink()
    link.symlink_to("circle.txt")
    area = packages / "shapes/cli.py"
    area.rename(packages / "shapes/cli_py")
    area.symlink_to("cli_py")
    found = json.loads(packed.diff("--json").check(1).stdout)
    what = {
        change["path"].removeprefix(f"{packed.site}/"): change["what"]
        for distribution in found["distributions"]
        for change in distribution["changed"]
    }
    assert what == {
        "plain.py": ["mode"],
        "shapes/templates/latest.txt": ["content"],
        "shapes/cli.py": ["kind"],
    }
    assert [one["name"] for one in found["distributions"]] == ["plain", "shapes"]
    assert (found["added"], found["removed"], found["changed"]) == (1, 0, 3)


def test_files_come_and_go(packed):
    packages = packed.environment.packages
    (packages / "shapes" / "new.py").write_text("")
    (packages / "plain.py").unlink()
    # A folder that is left empty is not something new, nor is one that is filled.
    for path in (packages / "spaced").rglob("one*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (packages / "loose").mkdir()
    lines = packed.changes()
    assert f"+ {packed.site}/shapes/new.py" in lines
    assert f"- {packed.site}/plain.py" in lines
    assert f"+ {packed.site}/loose" in lines
    assert "plain 1.0: 1 removed" in lines
    # Without `--files`, a line for each distribution and nothing else.
    short = packed.diff().check(1).stdout.splitlines()
    assert short == [line for line in lines if line[:2] not in ("+ ", "- ", "~ ")]
    assert {line.split()[0].rstrip(":") for line in short} == {
        "plain",
        "shapes",
        "spaced-one",
        "loose",
    }


def test_an_upgraded_distribution_is_one_line(packed, tmp_path):
    packed = Packed(packed.environment, tmp_path / "own.pybundle", packed.command)
    python = packed.environment.python
    files = {"tiny/__init__.py": "NUMBER = 1\n", "tiny/same.py": "", "tiny/old.py": ""}
    first = wheels.tiny(tmp_path / "wheels", "Tiny", "1.0", files)
    files = {"tiny/__init__.py": "NUMBER = 2\n", "tiny/same.py": "", "tiny/new.py": ""}
    second = wheels.tiny(tmp_path / "wheels", "Tiny", "2.0rc1", files)
    installing.install(python, [first])
    packed.pack().is_unchanged()
    installing.install(python, [second])
    lines = packed.changes()
    short = packed.diff().check(1).stdout
    assert short.startswith("tiny 1.0 -> 2.0rc1: ") and short.count("\n") == 1, short
    for line in (
        f"~ {packed.site}/tiny/__init__.py",
        f"- {packed.site}/tiny/old.py",
        f"+ {packed.site}/tiny/new.py",
        f"- {packed.site}/Tiny-1.0.dist-info/METADATA",
        f"+ {packed.site}/Tiny-2.0rc1.dist-info/METADATA",
    ):
        assert line.lower() in map(str.lower, lines), lines
    assert not any("same.py" in line for line in lines)
    counts = {sign: sum(line[0] == sign for line in lines) for sign in "+-~"}
    head = f"{counts['+']} added, {counts['-']} removed, {counts['~']} changed"
    assert short == f"tiny 1.0 -> 2.0rc1: {head}\n"
    installing.uninstall(python, ["tiny"])
    assert packed.diff().check(1).stdout.startswith("tiny 1.0, gone: ")
    packed.pack().is_unchanged()
    installing.install(python, [first])
    assert packed.diff().check(1).stdout.startswith("tiny 1.0, new: ")


def listing(folder: Path) -> list[tuple[str, int, int]]:
    found = [folder, *sorted(folder.rglob("*"))]
    return [(str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in found]


def test_nothing_is_written(packed):
    (packed.environment.packages / "plain.py").write_text("")
    before = listing(packed.folder), listing(packed.bundle.parent)
    packed.changes()
    assert (listing(packed.folder), listing(packed.bundle.parent)) == before


def trouble(words: Sequence[object], *texts: str) -> None:
    result = run(words)
    assert result.status == 2 and result.stdout == "", result
    assert all(text in result.stderr for text in texts), result


def test_trouble_is_status_2(packed, tmp_path):
    command, bundle, folder = packed.command, packed.bundle, packed.folder
    other = tmp_path / "other"
    other.write_text("no bundle\n")
    trouble([command, "diff", other, folder], "error: ", "not a pybundle file", f"`{other}`")
    trouble([command, "diff", tmp_path / "absent", folder], "error: ", "absent")
    empty = tmp_path / "empty"
    empty.mkdir()
    trouble([command, "diff", bundle, empty], "error: ", "has no interpreter", f"`{empty}`")
    trouble([command, "diff", bundle, other], "error: ", "not a folder", f"`{other}`")
    trouble([command, "diff", bundle], "Usage: ", "ENV")


def test_a_file_that_cannot_be_read_is_named(packed):
    path = packed.environment.packages / "shapes" / "area" / "round.py"
    assert path.exists()
    path.chmod(0)
    words: list[object] = [packed.command, "diff", packed.bundle, packed.folder]
    if os.geteuid() == 0:
        # Root reads everything, unless it gives that up.
        powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
        if shutil.which("setpriv") is None or subprocess.run([*powerless, "true"]).returncode:
            pytest.skip("root can't give up reading everything here")
        words = [*powerless, *words]
    trouble(words, "error: ", "ermission denied", f"`{path}`")


SAYS = (
    "pybundle: the environment has changed since it was packed: `{}`: pack it again"
    " (pybundle diff BUNDLE ENV says what changed)"
)


@pytest.fixture
def served(packed, runner, tmp_path) -> tuple[Packed, Runner]:
    """An environment of its own, packed, and what runs the bundle."""
    own = Packed(packed.environment, tmp_path / "own.pybundle", packed.command).pack()
    (tmp_path / "node").mkdir()
    return own, Runner(own.bundle, runner.python, tmp_path / "node")


def install_more(packed: Packed, folder: Path) -> None:
    """Install something more."""
    wheel = wheels.tiny(folder, "tiny", "1.0", {"tiny.py": "NUMBER = 1\n"})
    installing.install(packed.environment.python, [wheel])


PROGRAM = "import plain, sys; sys.stdout.write('out\\n'); sys.exit(int(sys.argv[1]))"


def test_one_process_is_told_once(served, tmp_path):
    packed, runner = served
    receipt = tmp_path / "receipt.json"
    words = ["--receipt", receipt, "-c", PROGRAM]

    def ran(status: int, says: list[str]) -> str:
        result = runner.run(*words, status).check(status)
        assert (result.stdout, result.stderr.splitlines()) == ("out\n", says)
        return run([packed.command, "receipt", receipt]).check().stdout

    assert "has changed" not in ran(0, [])
    install_more(packed, tmp_path / "wheels")
    says = SAYS.format(packed.folder)
    for status in (0, 3):
        assert f"has changed since it was packed: {packed.folder}\n" in ran(status, [says])
    assert packed.diff().status == 1
    # Packed anew there is nothing to say; nor where the environment is gone.
    packed.pack()
    ran(0, [])
    install_more(packed, tmp_path / "wheels")
    installing.uninstall(packed.environment.python, ["tiny"])
    ran(0, [says])
    packed.folder.rename(tmp_path / "moved")
    ran(0, [])


def test_what_does_not_ask_for_a_new_bundle_says_nothing(served):
    packed, runner = served
    # Imports, and what lets `python` start from the bundle.
    (packed.environment.packages / "__pycache__").mkdir(exist_ok=True)
    (packed.environment.packages / "__pycache__" / "x.cpython-311.pyc").write_text("")
    (packed.environment.packages / "pybundle.pth").write_text("import os\n")
    assert runner.run("-c", PROGRAM, 0).check().stderr == ""


def test_the_manifest_tells_what_was_installed_and_nothing_of_this_machine(served, tmp_path):
    packed, _ = served
    first = packed.bundle.read_bytes()
    (packed.environment.packages / "plain.py").touch()
    packed.environment.packages.touch()
    assert packed.pack().bundle.read_bytes() == first
    found = json.loads(run([packed.command, "inspect", packed.bundle, "--json"]).check().stdout)
    (installed,) = found["manifest"]["installed"]
    assert installed["folder"] == packed.site and len(installed["names"]) == 64
    assert found["manifest"]["format"] == "1.1"


@pytest.mark.mpi
@pytest.mark.parametrize("way", ["run", "pybundle-python"])
def test_a_job_is_told_once(way, served, wheel_mpi, tmp_path):
    packed, runner = served
    if way == "pybundle-python":
        if not packed.environment.base.libraries:
            pytest.skip("this Python has no libpython")
        runner = PackedRunner(runner.bundle, runner.python, runner.node_dir)
    before = runner.launch(wheel_mpi, 3, ["-c", PROGRAM, 0]).check()
    assert (before.stdout, before.stderr) == ("out\n" * 3, "")
    install_more(packed, tmp_path / "wheels")
    says = SAYS.format(packed.folder)
    after = runner.launch(wheel_mpi, 3, ["-c", PROGRAM, 0]).check()
    assert (after.stdout, after.stderr) == ("out\n" * 3, f"{says}\n")
    packed.folder.rename(tmp_path / "moved")
    gone = runner.launch(wheel_mpi, 3, ["-c", PROGRAM, 0]).check()
    assert (gone.stdout, gone.stderr) == ("out\n" * 3, "")


@pytest.mark.mpi
def test_root_alone_lists_one_folder_once(served, wheel_mpi, tmp_path):
    packed, runner = served
    install_more(packed, tmp_path / "wheels")
    program = tmp_path / "program.py"
    program.write_text(f"{counter.MARK}\nmark('program')\nimport plain, shapes.area\n")
    report = tmp_path / "counts.json"
    words = [*counter.command(report, [packed.folder], paths=True), wheel_mpi.mpiexec, "-n", 3]
    env = wheel_mpi.environment(**runner.variables())
    result = run([*words, *runner.words(program)], env=env, timeout=60).check()
    assert SAYS.format(packed.folder) in result.stderr
    ranks = [
        process
        for process in counter.parse(json.loads(report.read_text()))
        if process.marked("program")
    ]
    asked = [{str(path) for phase in rank.phases for path in phase.paths} for rank in ranks]
    below = [{path for path in paths if path.startswith(f"{packed.folder}/")} for paths in asked]
    assert sorted(below, key=len) == [set(), set(), {str(packed.environment.packages)}]
    assert all(rank.phase("program").below == [0] for rank in ranks)
