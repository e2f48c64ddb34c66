"""Packing over an older bundle: what is not read again, and who is not disturbed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support import counter
from support.environments import Environment
from support.process import clean_environment, run


@pytest.fixture
def environment(small: Environment, tmp_path: Path) -> Environment:
    copy = small.copy(tmp_path / "env")
    # Only what has settled is known by its size and times.
    time.sleep(2.1)
    return copy


def read_by_pack(environment: Environment, words: list[object]) -> set[Path]:
    """The environment's files that a packing opens."""
    counts = counter.count(words, below=[environment.packages])
    counts.result.check()
    opened = {
        Path(path)
        for process in counts.processes
        for phase in process.phases
        for path in phase.opened
    }
    kinds = {".py", ".pyc", ".so", ".txt"}
    return {path for path in opened if environment.folder in path.parents and path.suffix in kinds}


def test_what_has_not_changed_is_not_read_again(
    environment: Environment, runner: Environment, tmp_path: Path
) -> None:
    bundle = tmp_path / "env.pybundle"
    pack: list[object] = [runner.pybundle, "pack", environment.folder, "-o", bundle]
    sources = set(environment.packages.rglob("*.py"))
    assert sources <= read_by_pack(environment, pack)
    module = environment.packages / "shapes" / "__init__.py"
    module.write_text(module.read_text() + "\nADDED = 1\n")
    again = read_by_pack(environment, pack)
    # A source that does not compile is tried each time.
    assert {path for path in again if path.suffix == ".py"} == {module, module.with_name("old.py")}
    assert not [path for path in again if ".so" in path.name]
    ask = [runner.python, "-m", "pybundle", "run", "--bundle", bundle, "-c"]
    assert run([*ask, "import shapes; print(shapes.ADDED)"]).check().stdout == "1\n"
    # Whoever doesn't believe the times has everything compared.
    assert sources <= read_by_pack(environment, [*pack, "--check"])


def test_the_record_lies_in_the_users_cache(
    environment: Environment, runner: Environment, tmp_path: Path
) -> None:
    bundle = tmp_path / "env.pybundle"
    pack = [runner.pybundle, "pack", environment.folder, "-o", bundle, "--json"]
    env = clean_environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    first = json.loads(run(pack, env=env).check().stdout)
    assert first["kept"]["entries"] == 0
    (record,) = (tmp_path / "cache/pybundle/pack").iterdir()
    again = json.loads(run(pack, env=env).check().stdout)
    assert again["identity"] == first["identity"]
    assert again["kept"]["entries"] > 50 and again["code"]["compiled"] == 0
    assert list(record.parent.iterdir()) == [record]
    # Nothing depends on it: not on its being there, nor on a place for it.
    for folder in ("elsewhere", "/proc/nowhere"):
        env = clean_environment(XDG_CACHE_HOME=str(tmp_path / folder))
        result = run(pack, env=env).check()
        without = json.loads(result.stdout)
        assert without["identity"] == first["identity"] and without["kept"] == again["kept"]
    assert any("can't tell what has changed" in warning for warning in without["warnings"])


def test_a_job_goes_on_with_the_bundle_it_has(
    environment: Environment, runner: Environment, tmp_path: Path
) -> None:
    bundle = tmp_path / "env.pybundle"
    pack = [str(word) for word in (runner.pybundle, "pack", environment.folder, "-o", bundle)]
    run(pack).check()
    module = environment.packages / "shapes" / "__init__.py"
    # The program changes its own environment and packs it anew before it imports from it.
    program = f"""
import subprocess
with open({str(module)!r}, "a") as file:
    file.write("ADDED = 1\\n")
subprocess.run({pack!r}, check=True, capture_output=True)
import shapes
print(hasattr(shapes, "ADDED"))
"""
    start = [runner.python, "-m", "pybundle", "run", "--bundle", bundle, "-c"]
    assert run([*start, program]).check().stdout == "False\n"
    then = run([*start, "import shapes; print(hasattr(shapes, 'ADDED'))"]).check()
    assert then.stdout == "True\n"
