"""Files that programs reach by path: compared with plain imports."""

from support.compared import BUNDLED, EMPTY, compared, output


@compared
def test_files_beside_modules_open():
    import os

    import fast
    import files
    import shapes
    import shapes.area.round

    # A distribution's files are placed before its first module runs.
    folder = os.path.dirname(files.__file__)
    facts = []
    for path in ("top.txt", "data/one.txt", "data/deeper/two.txt", "module.py", "plugins/beta.py"):
        with open(os.path.join(folder, path)) as file:
            facts.append(file.read())
    facts.append(os.path.exists(os.path.join(os.path.dirname(shapes.__file__), "data-\u00e4.csv")))
    facts.append(
        os.readlink(os.path.join(os.path.dirname(shapes.__file__), "templates/latest.txt"))
    )
    facts.append([os.path.isfile(m.__file__) for m in (fast, shapes, shapes.area.round)])
    return facts


@compared
def test_folders_are_listed_and_globbed():
    import glob
    import os
    import pathlib

    import files
    import files.tests

    assert files.tests
    folder = pathlib.Path(files.__file__).parent
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [
        # Bytecode stays in memory.
        [path for path in found if "__pycache__" not in path],
        sorted(os.path.basename(p) for p in glob.glob(str(folder / "plugins/*.py"))),
        sorted(name for name in os.listdir(folder) if name != "__pycache__"),
        [
            entry.is_dir()
            for entry in sorted(os.scandir(folder), key=lambda e: e.name)
            if entry.name != "__pycache__"
        ],
    ]


@compared
def test_plugins_scanned_by_name():
    import importlib
    import importlib.util
    import os
    import sys

    import files

    folder = os.path.join(os.path.dirname(files.__file__), "plugins")
    facts = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            path = os.path.join(folder, name)
            spec = importlib.util.spec_from_file_location("plugin_" + name[:-3], path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            facts.append([module.NAME, module.__file__])
    sys.path.insert(0, folder)
    facts.append(importlib.import_module("alpha").__file__)
    facts.append(importlib.import_module("files.plugins.beta").__file__)
    return facts


@compared
def test_stat_of_module_files():
    import os
    import stat

    import fast._fast
    import shapes.area.round

    facts = []
    for module in (shapes, shapes.area.round, fast._fast):
        found = os.stat(module.__file__)
        facts.append(
            [stat.S_ISREG(found.st_mode), found.st_size, os.access(module.__file__, os.R_OK)]
        )
    return facts


@compared
def test_libraries_beside_modules_load():
    import ctypes
    import os

    import fast

    folder = os.path.join(os.path.dirname(os.path.dirname(fast.__file__)), "fast.libs")
    (name,) = os.listdir(folder)
    by_path = ctypes.CDLL(os.path.join(folder, name))
    # By name alone, as the extension's own library was loaded before.
    by_name = ctypes.CDLL(name)
    return [name, by_path._handle == by_name._handle]


@compared
def test_dlopen_flags_of_the_program_hold():
    import ctypes
    import os
    import sys

    before = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    import fast._fast

    sys.setdlopenflags(before)
    everywhere = ctypes.CDLL(None)
    return [
        everywhere.PyInit__fast is not None,
        hasattr(everywhere, "tally"),
        before,
        fast._fast.__name__,
    ]


@compared
def test_modules_local_symbols_stay_local():
    import ctypes

    import fast._fast

    everywhere = ctypes.CDLL(None)
    return [hasattr(everywhere, "PyInit__fast"), hasattr(everywhere, "tally"), fast._fast.__doc__]


@compared
def test_extension_modules_that_cant_load():
    import os
    import sys

    import fast._fast
    from looking import import_error

    suffix = fast._fast.__file__.rpartition("_fast")[2]
    with open("broken" + suffix, "w") as file:
        file.write("no library")
    sys.path.insert(0, os.getcwd())
    return import_error("broken")


@compared
def test_prefixes_and_configuration_name_the_environment():
    import site
    import sys
    import sysconfig

    return [
        sys.exec_prefix == sys.prefix,
        sys.prefix != sys.base_prefix,
        sysconfig.get_path("purelib"),
        sysconfig.get_config_var("prefix"),
        site.getsitepackages(),
        site.ENABLE_USER_SITE,
    ]


def test_paths_and_times_are_the_same_at_every_start(python, tmp_path):
    # What caches of compiled functions are keyed by. The image is made anew each time.
    program = tmp_path / "program.py"
    program.write_text(
        "import files, os, shapes.area\n"
        "for path in (files.__file__, shapes.area.__file__):\n"
        "    print(path, os.stat(path).st_mtime_ns, os.stat(path).st_size)\n"
    )
    first = output(python, EMPTY, program)
    assert "/tree/" in first
    assert {output(python, way, program) for way in BUNDLED} == {first}
