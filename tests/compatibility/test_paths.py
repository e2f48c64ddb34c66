"""`sys.path`, namespace packages, `.pth` files, editable installs: compared with plain imports."""

import zipfile

from support import built, environments, installing
from support.bundles import Runner
from support.compared import BUNDLED, EMPTY, FILES, OWN, compared, output
from support.environments import Environment
from support.process import clean_environment, run


@compared
def test_the_environments_own_folders_are_on_sys_path():
    import sys

    # In the same order. In a virtual environment `site` runs the lines of .pth files twice; ours
    # run once, so what a line inserts is there once.
    found = [path for path in sys.path if path.startswith(sys.prefix) and "META-INF" not in path]
    assert len(found) >= 4, found
    return list(dict.fromkeys(found))


@compared
def test_folders_put_first_win_and_appended_ones_lose():
    import importlib
    import os
    import sys

    def load(name):
        sys.modules.pop(name, None)
        return importlib.import_module(name).__file__

    for folder in ("first", "last"):
        os.mkdir(folder)
        for name in ("single", "asserts", f"only_{folder}"):
            with open(f"{folder}/{name}.py", "w") as file:
                file.write(f"WHERE = {folder!r}\n")
    found = [load("single")]
    sys.path.append(os.path.abspath("last"))
    found += [load("single"), load("only_last")]
    sys.path.insert(0, os.path.abspath("first"))
    found += [load("single"), load("asserts"), load("only_first")]
    sys.path.remove(os.path.abspath("first"))
    found += [load("single")]
    sys.path = [os.path.abspath("last"), *sys.path]
    return [*found, load("asserts")]


@compared
def test_relative_entries_and_the_working_folder():
    import os
    import sys

    with open("here.py", "w") as file:
        file.write("NAME = 'here'\n")
    os.mkdir("below")
    with open("below/there.py", "w") as file:
        file.write("NAME = 'there'\n")
    sys.path[:0] = ["", "below"]
    import here
    import there

    return [here.__file__, there.__file__]


@compared
def test_entries_that_are_no_folders():
    import importlib
    import sys

    sys.path[:0] = ["/no/such/folder", sys.executable, "relative/absent"]
    facts = [importlib.import_module(name).__name__ for name in ("single", "shapes.area")]
    sys.path.insert(0, sys.prefix + "/no/such/folder")
    return [*facts, importlib.import_module("asserts").__name__]


@compared
def test_namespace_packages_of_one_and_more_portions():
    import portions
    import portions.module
    import portions.other
    import spaced.one
    import spaced.two

    return [
        [portions.module.NAME, portions.other.NAME, spaced.one.__name__, spaced.two.__name__],
        [type(portions.__path__).__name__, list(portions.__path__)],
        [portions.__spec__.origin, portions.__file__ if hasattr(portions, "__file__") else None],
    ]


@compared
def test_namespace_packages_split_between_bundle_and_disk():
    import os
    import sys

    for folder, name in (("more", "three"), ("late", "four"), ("moved", "five")):
        os.makedirs(f"{folder}/spaced")
        with open(f"{folder}/spaced/{name}.py", "w") as file:
            file.write(f"NAME = {name!r}\n")
    from looking import import_error

    sys.path.insert(0, os.path.abspath("more"))
    import spaced.one
    import spaced.three

    facts = [list(spaced.__path__), spaced.three.NAME, import_error("spaced.four")["text"]]
    sys.path.append(os.path.abspath("late"))
    import spaced.four

    facts += [list(spaced.__path__), repr(spaced.__path__), len(spaced.__path__)]
    spaced.__path__.append(os.path.abspath("moved/spaced"))
    import spaced.five

    return [*facts, spaced.four.NAME, spaced.five.NAME, "late" in repr(list(spaced.__path__))]


@compared
def test_namespace_packages_of_pkgutil():
    import legacy
    import legacy.inside
    import legacy.outside

    return [list(legacy.__path__), legacy.inside.NAME, legacy.outside.NAME, legacy.__file__]


@compared
def test_namespace_packages_of_pkg_resources():
    import warnings

    warnings.simplefilter("ignore")
    import declared.inside

    return [type(declared.__path__).__name__, list(declared.__path__), declared.inside.NAME]


@compared
def test_pth_files_add_paths_and_run_lines():
    import sys

    import ahead
    import beside
    import plain

    return [set(plain.HOOKS), beside.__file__, ahead.__file__, "plain" in sys.modules]


@compared
def test_zip_files_on_sys_path_by_a_pth_line():
    import pkgutil

    import zipped

    return [
        zipped.where(),
        zipped.__file__,
        type(zipped.__loader__).__name__,
        pkgutil.get_data("zipped", "data.txt").decode(),
    ]


@compared
def test_zip_files_put_on_sys_path_at_run_time():
    import os
    import sys
    import zipfile

    import single

    with zipfile.ZipFile("some.zip", "w") as file:
        file.writestr("inside_zip.py", "NAME = 'inside'\n")
        file.writestr("single.py", "NAME = 'single in zip'\n")
        file.writestr("spaced/", "")
        file.writestr("spaced/in_zip.py", "NAME = 'portion'\n")
    sys.path.append(os.path.abspath("some.zip"))
    import inside_zip
    import spaced.in_zip

    return [inside_zip.__file__, single.__file__, spaced.in_zip.NAME, len(list(spaced.__path__))]


@compared
def test_editable_installs_by_a_path():
    import inspect

    import linked_project.part

    return [
        linked_project.__file__,
        linked_project.part.NAME,
        type(linked_project.__loader__).__name__,
        inspect.getsource(linked_project),
    ]


@compared
def test_editable_folders_keep_their_place():
    import sys

    names = [path.replace(sys.prefix, "") for path in sys.path]
    return [name for name in names if name.endswith(("linked/src", "/extra"))]


@compared
def test_editable_installs_by_a_finder():
    import sys

    import found_alone
    import found_project
    import found_space.inner

    finders = [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path]
    return [
        found_project.__file__,
        found_project.NAME,
        found_alone.__file__,
        found_space.inner.NAME,
        found_space.inner.__file__,
        [name for name in finders if name != "Finder"],
    ]


def test_pythonpath_and_the_scripts_folder_win(python, tmp_path):
    for folder in ("named", "beside"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "single.py").write_text(f"WHERE = {folder!r}\n")
        (tmp_path / folder / f"only_{folder}.py").write_text("")
    program = (
        "import single, sys\n"
        "at = [path.rpartition('/')[2] for path in sys.path]\n"
        "print(getattr(single, 'WHERE', 'environment'), at[:2])\n"
    )
    script = tmp_path / "beside/program.py"
    script.write_text(program + "import only_beside\n")
    alone = tmp_path / "program.py"
    alone.write_text(program)
    named = {"PYTHONPATH": str(tmp_path / "named")}
    for words, variables in (
        ((alone,), {}),
        ((alone,), named),
        ((script,), named),
        (("-c", program), named),
        (("-c", program), {}),
    ):
        expected = output(python, FILES, *words, **variables)
        for way in BUNDLED:
            assert output(python, way, *words, **variables) == expected


def test_folders_and_zip_files_run_as_programs(python, tmp_path):
    text = "import single, sys\nprint(__spec__.name, __file__, sys.path[0], single.double(2))\n"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/__main__.py").write_text(text)
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as file:
        file.writestr("__main__.py", text)
    for program in (tmp_path / "folder", tmp_path / "program.zip"):
        expected = output(python, FILES, program)
        for way in BUNDLED:
            assert output(python, way, program) == expected


def test_modules_that_site_imported_keep_their_paths(python):
    # The environment's own interpreter runs `.pth` lines before the bundle is there.
    program = "import plain, shapes, sys; print(plain.__file__, shapes.__file__, sys.prefix)"
    plain, shapes, prefix = output(python, OWN, "-c", program).split()
    assert plain == str(environments.environment("varied", python).packages / "plain.py")
    assert shapes.startswith(prefix)
    plain, shapes, prefix = output(python, EMPTY, "-c", program).split()
    assert plain.startswith(prefix) and shapes.startswith(prefix)


def test_the_users_own_site_packages_keep_their_place(python, tmp_path):
    # An environment that lets the base Python through has the user's folder on sys.path as well.
    folder = tmp_path / "env"
    run(
        [python.executable, "-m", "venv", "--system-site-packages", "--without-pip", folder]
    ).check()
    environment = Environment("open", python, folder)
    for place, name in (("env", "both"), ("env", "inside"), ("user", "both"), ("user", "outside")):
        base = folder if place == "env" else tmp_path / "user"
        module = base / "lib" / f"python{python.minor}" / "site-packages" / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(f"WHERE = {place!r}\n")
    installing.install(environment.python, [built.wheel()])
    bundle = tmp_path / "env.pybundle"
    run([environment.pybundle, "pack", folder, "-o", bundle]).check()
    program = (
        "import both, functools, inside, outside, sys, site;"
        "print(both.WHERE, inside.WHERE, outside.WHERE, site.ENABLE_USER_SITE);"
        # The base's, which the environment sees too, are packed below it.
        "places = [(sys.prefix, '<env>'), ('<env>/META-INF/pybundle/roots/1', '<base>'),"
        f" ({str(python.prefix)!r}, '<base>')];"
        "shown = [path for path in sys.path if path.endswith('-packages')];"
        "print([functools.reduce(lambda path, place: path.replace(*place), places, path)"
        " for path in shown])"
    )
    env = {"PYTHONUSERBASE": str(tmp_path / "user")}
    plain = run([environment.python, "-c", program], env=clean_environment(**env)).check().stdout
    assert plain.startswith("env env user True\n")
    node = tmp_path / "node"
    node.mkdir()
    served = Runner(bundle, environment.python, node).run("-c", program, env=env).check()
    assert served.stdout == plain
