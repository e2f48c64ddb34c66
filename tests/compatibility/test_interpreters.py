"""Options of the interpreter and interpreters within it: compared with plain imports."""

from support.compared import BUNDLED, EMPTY, FILES, OWN, compared, masked, output, start

LEVELS = """
import json, asserts, examples, single, sourceless, sys
def answer():
    return [asserts.ASSERTED, asserts.DEBUG, asserts.__doc__, examples.twice.__doc__,
            single.double(2), sys.flags.optimize, asserts.__cached__.rpartition("/")[2]]
print(json.dumps(answer()))
"""


def test_optimisation_levels(python):
    for options in ((), ("-O",), ("-OO",)):
        words = ("-c", LEVELS)
        expected = start(python, FILES, *words, options=options).check().stdout
        for way in BUNDLED:
            assert start(python, way, *words, options=options).check().stdout == expected


def test_options_of_the_interpreter(python):
    program = (
        "import sys, shapes.area.round, warnings\n"
        "print(sys.flags.isolated, sys.flags.no_user_site, sys.flags.utf8_mode)\n"
        "import warning\nwarning.old()\n"
    )
    for options in (("-I",), ("-s",), ("-X", "utf8"), ("-W", "error"), ("-W", "ignore"), ("-b",)):
        words = ("-c", program)
        expected = ended(python, FILES, words, options)
        for way in BUNDLED:
            assert ended(python, way, words, options) == expected, options


def ended(python, way, words, options):
    """How a program ends, and its words."""
    result = start(python, way, *words, options=options)
    return result.status, result.stdout, masked(python, result.stderr)


@compared
def test_pycache_prefix_names_cached_files():
    import sys

    sys.pycache_prefix = "/some/folder"
    import asserts
    import shapes

    return [path.replace(sys.prefix, "<env>") for path in (asserts.__cached__, shapes.__cached__)]


@compared
def test_cached_says_where_python_would_write():
    import importlib.util

    import asserts

    # The file isn't there: bytecode comes from memory.
    return [
        asserts.__cached__,
        importlib.util.cache_from_source(asserts.__file__) == asserts.__cached__,
        importlib.util.source_from_cache(asserts.__cached__) == asserts.__file__,
    ]


SUB_INTERPRETER = """
import sys
name = "_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters"
interpreters = __import__(name)
code = '''
import sys
sys.path[:] = PATH
for name in ("single", "shapes.area.round", "spaced.one", "no_such_module"):
    try:
        module = __import__(name, fromlist=["x"])
        print(module.__name__, module.__file__.startswith(sys.prefix))
    except ImportError as error:
        print(f"{type(error).__name__}: {error}")
sys.stdout.flush()
'''
code = code.replace("PATH", f"{sys.path!r}; sys.prefix = {sys.prefix!r}")
interpreters.run_string(interpreters.create(), code)
"""


def test_sub_interpreters_import_by_files(each_python):
    expected = output(each_python, FILES, "-c", SUB_INTERPRETER)
    assert expected.startswith("single True\nshapes.area.round True\n")
    # Our extension isn't in them: they find what is in the tree.
    assert output(each_python, EMPTY, "-c", SUB_INTERPRETER) == expected


def test_sub_interpreters_of_the_environment_import_from_it(python):
    program = SUB_INTERPRETER.replace("sys.path[:] = PATH", "")
    assert output(python, OWN, "-c", program) == output(python, FILES, "-c", program)
