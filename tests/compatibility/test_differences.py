"""What is not as with plain files: COMPATIBILITY.md has the reasons."""

import json

from support.compared import BUNDLED, EMPTY, FILES, OWN, output, start

# Versions that don't say that a file hides a module.
OLD = ("3.9", "3.10", "3.11", "3.12")


def told(python, way, program, *options):
    """What a program prints as JSON, this way."""
    return json.loads(output(python, way, *options, "-c", f"import json\n{program}"))


def test_test_folders_appear_when_something_in_them_is_used(python):
    program = """
import os, pkgutil, files, importlib.util, importlib.resources
folder = os.path.join(os.path.dirname(files.__file__), "tests")
seen = [os.path.exists(os.path.join(folder, "sample.txt"))]
seen.append(importlib.util.find_spec("files.tests") is not None)
seen.append("tests" in [m.name for m in pkgutil.iter_modules(files.__path__)])
import files.tests
importlib.resources.files("files.tests")
seen.append(os.path.exists(os.path.join(folder, "sample.txt")))
print(json.dumps(seen))
"""
    assert told(python, FILES, program) == [True] * 4
    for way in BUNDLED:
        assert told(python, way, program) == [False, True, True, True]
        assert told(python, way, program, "--all-files") == [True] * 4


def test_bytecode_files_dont_exist(python):
    program = """
import os, importlib.metadata, importlib.util, shapes
listed = [str(path) for path in importlib.metadata.files("shapes")]
print(json.dumps([os.path.exists(shapes.__cached__),
    importlib.util.cache_from_source(shapes.__file__) == shapes.__cached__,
    any(path.endswith(".pyc") for path in listed), "shapes/__init__.py" in listed]))
"""
    assert told(python, FILES, program) == [True] * 4
    for way in BUNDLED:
        exists, same, _, listed = told(python, way, program)
        assert (exists, same, listed) == (False, True, True)


def test_loaders_are_subclasses_of_importlibs(python):
    program = """
import importlib.machinery as m, shapes, sourceless, fast._fast
kinds = m.SourceFileLoader, m.SourcelessFileLoader, m.ExtensionFileLoader
loaders = [module.__loader__ for module in (shapes, sourceless, fast._fast)]
print(json.dumps([[isinstance(l, k), type(l).__name__] for l, k in zip(loaders, kinds)]))
"""
    names = ["SourceLoader", "SourcelessLoader", "ExtensionLoader"]
    for way in BUNDLED:
        assert told(python, way, program) == [[True, name] for name in names]


def test_importlibs_frames_are_fewer(python):
    program = """
import importlib, traceback
try:
    # An import statement leaves importlib's frames out, a call leaves them in.
    importlib.import_module("failing.body")
except ZeroDivisionError as error:
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
print(json.dumps([frame for frame in frames if not frame.endswith("body.py")]))
"""
    plain = told(python, FILES, program)
    assert "<frozen importlib._bootstrap_external>" in plain
    for way in BUNDLED:
        got = told(python, way, program)
        assert got == [frame for frame in plain if not frame.endswith("external>")]


def test_hints_at_hidden_modules_know_the_working_folder(python, tmp_path):
    # It hides one of the standard library from itself.
    script = tmp_path / "program" / "wave.py"
    script.parent.mkdir()
    script.write_text("import wave\nwave.open\n")
    hint = "consider renaming" if python.minor not in OLD else "circular import"
    for folder, expected in (script.parent, hint), (tmp_path, "circular import"):
        got = start(python, FILES, script, cwd=folder)
        assert hint in got.stderr, got
        for way in BUNDLED:
            got = start(python, way, script, cwd=folder)
            assert expected in got.stderr, got


def test_compile_time_warnings_came_when_packing(python):
    words = ("-c", "import escaping; print(escaping.PATTERN)")
    options = ("-W", "always")
    plain = start(python, FILES, *words, options=options).check()
    assert "invalid escape sequence" in plain.stderr
    for way in BUNDLED:
        got = start(python, way, *words, options=options).check()
        assert got.stdout == plain.stdout
        assert "escape" not in got.stderr


def test_lines_of_pth_files_run_once(python):
    program = "import plain\nprint(json.dumps(plain.HOOKS))"
    assert told(python, EMPTY, program) == ["hook.pth"]
    # By the environment's own interpreter `site` runs them, as often as it does without a bundle.
    assert told(python, OWN, program) == told(python, FILES, program)


def test_children_whose_pythonpath_is_replaced_start_plainly(python):
    program = """
import os, subprocess, sys
ask = "import importlib.util; print(importlib.util.find_spec('shapes') is not None)"
env = {**os.environ, "PYTHONPATH": os.path.dirname(os.__file__)}
done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True)
print(json.dumps([done.stdout.strip(), done.stderr]))
"""
    assert told(python, FILES, program) == ["True", ""]
    assert told(python, OWN, program) == ["True", ""]
    assert told(python, EMPTY, program) == ["False", ""]


def test_files_of_the_standard_library_appear_with_their_modules(python):
    program = """
import json, os
folder = os.path.dirname(os.path.dirname(json.__file__))
names = ("json/__init__.py", "json/decoder.py", "wave.py")
print(json.dumps([os.path.exists(os.path.join(folder, name)) for name in names]))
"""
    assert told(python, FILES, program) == [True] * 3
    for way in BUNDLED:
        assert told(python, way, program) == [True, True, False]
        assert told(python, way, program, "--all-files") == [True] * 3
