"""`python -m pybundle run` does what `python` does: arguments, `__main__`, status, traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import bundles, pythons
from support.bundles import CLEAN
from support.process import Result, clean_environment
from support.programs import FORMS, SHOW, shown, write


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder of programs."""
    return write(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def small_runner(small, tmp_path) -> bundles.Runner:
    """Runs the small bundle."""
    (tmp_path / "node").mkdir()
    return bundles.runner(small, tmp_path / "node")


@pytest.mark.parametrize("form", FORMS)
def test_a_program_sees_what_python_shows_it(form, run, programs, small_runner):
    words = FORMS[form]
    plain = run([small_runner.python, *words], env=clean_environment(), cwd=programs)
    ours = small_runner.run(*words, cwd=programs)
    assert shown(ours) == shown(plain)
    assert small_runner.left() in CLEAN


def test_standard_input_is_a_program_too(run, programs, small_runner):
    words = [small_runner.python, "-", "a"]
    plain = run(words, env=clean_environment(), cwd=programs, stdin=SHOW)
    ours = small_runner.run("-", "a", cwd=programs, stdin=SHOW)
    assert shown(ours) == shown(plain)


@pytest.mark.parametrize("minor", pythons.MINORS)
def test_every_python_runs_all_forms(minor, run, programs, environment, tmp_path):
    python = pythons.pythons().get(minor)
    if python is None:
        pytest.skip(f"no CPython {minor} on this machine")
    (tmp_path / "node").mkdir()
    runner = bundles.runner(environment("small", python), tmp_path / "node")
    for words in (*FORMS.values(), ["-c", "import shapes.area, fast; print(shapes.__file__)"]):
        ours = runner.run(*words, cwd=programs)
        if "shapes" in words[-1]:
            ours.check()
            assert str(tmp_path) in ours.stdout
        else:
            plain = run([runner.python, *words], env=clean_environment(), cwd=programs)
            assert shown(ours) == shown(plain)


@pytest.mark.parametrize("text", [b"# coding: unknown\n", b"print('\xe9')\n", b"1\0\n2\n"])
def test_a_program_that_cannot_be_read_is_a_syntax_error(run, small_runner, tmp_path, text):
    (tmp_path / "app.py").write_bytes(text)
    for result in (
        run([small_runner.python, "app.py"], env=clean_environment(), cwd=tmp_path),
        small_runner.run("app.py", cwd=tmp_path),
    ):
        # Python's words for a file are others than for a text.
        assert (result.status, result.stdout) == (1, "")
        assert "SyntaxError" in result.stderr or "ValueError: source code" in result.stderr
        assert "pybundle" not in result.stderr


def test_isolated_python_keeps_folders_off_the_path(run, programs, small_runner):
    code = "import sys; print(sys.path[0])"
    for option in ("-I", *(("-P",) if sys.version_info >= (3, 11) else ())):
        plain = run([small_runner.python, option, "-c", code], cwd=programs).check()
        head, *tail = small_runner.words("-c", code)
        ours = run([head, option, *tail], cwd=programs).check()
        # The first folder is another one with and without a bundle, but not the program's.
        assert str(programs) not in ours.stdout + plain.stdout
        assert ours.stdout != "\n"


def test_modules_of_the_bundle_come_from_the_node_image(small_runner, tmp_path):
    code = "import plain, shapes, sys; print(plain.__file__, shapes.__file__, sys.prefix)"
    words = small_runner.run("-c", code).check().stdout.split()
    assert len(words) == 3
    assert all(word.startswith(str(tmp_path)) for word in words)
    assert small_runner.left() in CLEAN


def test_the_bundle_is_named_by_option_variable_or_place(run, small_runner, tmp_path):
    def python(*args: object, **env: str) -> Result:
        words = [small_runner.python, "-m", "pybundle", "run", *args, "-c", "import plain"]
        return run(words, env=clean_environment(PYBUNDLE_NODE_DIR=str(tmp_path), **env))

    bundle = str(small_runner.bundle)
    python(f"--bundle={bundle}").check()
    python("--bundle", bundle, PYBUNDLE="/absent").check()
    python(PYBUNDLE=bundle).check()
    refused = python().check(1)
    beside = f"{small_runner.python.parents[1]}.pybundle"
    assert refused.stderr.startswith("error: ")
    assert f"`{beside}`" in refused.stderr
    assert "\nhint: name the bundle with `--bundle FILE` or `PYBUNDLE`" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_disabled_runs_the_environment_itself(small_runner):
    code = "import sys; print(sys.prefix)"
    result = small_runner.run("-c", code, env={"PYBUNDLE_DISABLE": "1"}).check()
    assert result.stdout.strip() == str(small_runner.python.parents[1])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "no program is given"),
        (["-x", "show.py"], "unknown option -x"),
        (["--bundle"], "option --bundle needs a file"),
    ],
)
def test_a_wrong_command_line_is_status_2(words, text, run, small_runner):
    result = run([small_runner.python, "-m", "pybundle", "run", *words]).check(2)
    assert text in result.stderr
    assert "usage:" in result.stderr


def test_help_is_on_standard_output(run, small_runner):
    result = run([small_runner.python, "-m", "pybundle", "run", "--help"]).check()
    assert result.stdout.startswith("usage: python -m pybundle run ")
    assert not result.stderr


def test_another_pythons_bundle_is_refused_by_name(run, environment, python, small_runner):
    others = [found for found in pythons.pythons().values() if found.minor != python.minor]
    if not others:
        pytest.skip("one Python alone")
    other = environment("runner", others[0]).python
    words = [other, *small_runner.words("-c", "print('ran')")[1:]]
    result = run(words, env=clean_environment(**small_runner.variables())).check(1)
    assert "ran" not in result.stdout
    assert "made for another Python" in result.stderr
    assert small_runner.left() in CLEAN


def test_what_python_ends_by_a_signal_ends_so(small_runner):
    # The shell counts 128 + 2; a parent that asks sees the signal.
    assert small_runner.run("-c", "raise KeyboardInterrupt").status == -2
    code = "import os; os.kill(os.getpid(), 9)"
    assert small_runner.run("-c", code).status == -9


def test_program_names_are_bytes(programs, small_runner):
    name = os.fsdecode(b"caf\xe9.py")
    (programs / name).write_text("import sys; print(ascii(sys.argv))\n")
    result = small_runner.run(name, os.fsdecode(b"\xff"), cwd=programs).check()
    assert result.stdout == "['caf\\udce9.py', '\\udcff']\n"


def test_a_node_without_room_uses_the_environment(run, small, small_runner):
    words = small_runner.words("-c", "import plain, shapes; print(plain.__file__)")
    limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh"]
    env = clean_environment(**small_runner.variables())
    result = run([*limited, *words], env=env).check()
    assert result.stdout.strip() == str(small.packages / "plain.py")
    words.insert(words.index("run") + 1, "--strict")
    refused = run([*limited, *words], env=env).check(1)
    assert "can hold the image" in refused.stderr
    assert small_runner.left() in CLEAN
