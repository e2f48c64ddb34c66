"""Tools that read sources, and things named by their module: compared with plain imports."""

from support.compared import BUNDLED, FILES, compared, masked, output, start


@compared
def test_inspect_finds_sources():
    import inspect

    import fast._fast
    import shapes.area.round
    import sourceless
    import spaced
    from looking import error_of

    import examples

    return [
        inspect.getsource(shapes.area.round.circle),
        inspect.getsource(examples.Pair),
        inspect.getsource(examples),
        inspect.getsourcefile(shapes),
        inspect.getfile(examples.Pair),
        inspect.getfile(fast._fast),
        inspect.getmodule(shapes.area.square).__name__,
        inspect.getmodule(None, examples.__file__).__name__,
        inspect.getmodulename(shapes.area.round.__file__),
        inspect.getdoc(examples.Pair.first),
        inspect.getcomments(shapes.area.square),
        inspect.getsourcelines(examples.twice)[1],
        error_of(inspect.getsource, sourceless.fail),
        error_of(inspect.getsourcefile, spaced),
        error_of(inspect.getsource, fast._fast),
        inspect.getsourcefile(sourceless),
    ]


@compared
def test_linecache_reads_lines():
    import linecache

    import shapes.area
    import shapes.tests.test_area

    path = shapes.area.__file__
    first = linecache.getline(path, 4)
    linecache.checkcache(path)
    return [
        first,
        linecache.getline(path, 4),
        len(linecache.getlines(shapes.tests.test_area.__file__)) > 0,
        linecache.lazycache("/some/name.py", vars(shapes.area)),
        linecache.getline("/some/name.py", 4),
    ]


@compared
def test_tracebacks_have_source_lines():
    import io
    import sys
    import traceback

    import shapes.area
    import sourceless

    facts = []
    for function, arguments in ((shapes.area.square, (-1,)), (sourceless.fail, ())):
        try:
            function(*arguments)
        except ValueError as error:
            frames = traceback.extract_tb(error.__traceback__)[1:]
            facts.append([[f.filename, f.lineno, f.name, f.line] for f in frames])
            caught = traceback.TracebackException.from_exception(error, capture_locals=True)
            facts.append(list(caught.format())[-2:])
            stream, sys.stderr = sys.stderr, io.StringIO()
            sys.__excepthook__(type(error), error, error.__traceback__.tb_next)
            facts.append(sys.stderr.getvalue())
            sys.stderr = stream
    return facts


@compared
def test_doctests_run():
    import doctest

    import examples

    runner = doctest.DocTestRunner(verbose=False)
    facts = []
    for test in doctest.DocTestFinder().find(examples):
        output = []
        result = runner.run(test, out=output.append)
        facts.append([test.name, test.filename, test.lineno, list(result), output])
    suite = doctest.DocTestSuite("examples")
    return facts, suite.countTestCases(), doctest.testsource("examples", "examples.twice")


@compared
def test_unittest_discovers_and_loads():
    import os
    import unittest

    import shapes.tests

    loader = unittest.TestLoader()
    folder = os.path.dirname(shapes.tests.__file__)
    top = os.path.dirname(os.path.dirname(folder))
    found = loader.discover(folder, pattern="test_*.py", top_level_dir=top)
    return [found.countTestCases(), len(loader.errors)]


@compared
def test_runpy_runs_modules_and_paths():
    import runpy
    import warnings

    import asserts
    from looking import error_of

    warnings.simplefilter("ignore")
    ran = runpy.run_module("single", run_name="other")
    by_path = runpy.run_path(asserts.__file__, {"given": 1})
    keys = ("__name__", "__file__", "__cached__", "__package__", "__doc__")
    return [
        [ran[key] for key in keys],
        ran["__spec__"].name,
        [by_path[key] for key in keys],
        by_path["given"],
        ran["double"](2),
        runpy.run_module("sourceless")["__name__"],
        error_of(runpy.run_module, "spaced")["text"],
        error_of(runpy.run_module, "fast._fast")["text"],
        error_of(runpy.run_module, "no_such_module")["text"],
        error_of(runpy.run_path, "/no/such/path")["type"],
    ]


@compared
def test_pickles_name_modules():
    import pickle

    import replacing
    import shapes.area

    import examples

    pair = pickle.loads(pickle.dumps(examples.Pair()))
    function = pickle.loads(pickle.dumps(shapes.area.square))
    instead = pickle.loads(pickle.dumps(type(replacing.value)))
    data = pickle.dumps(examples.Pair, 0)
    return [type(pair) is examples.Pair, function is shapes.area.square, instead.__name__, data]


@compared
def test_pydoc_and_help_find_modules():
    import pydoc

    import examples

    text = pydoc.render_doc(examples, renderer=pydoc.plaintext)
    return [text, pydoc.locate("shapes.area.square").__name__, pydoc.locate("shapes.absent")]


@compared
def test_ast_and_tokenize_read_sources():
    import ast
    import tokenize

    import examples

    with tokenize.open(examples.__file__) as file:
        tree = ast.parse(file.read())
    return [type(node).__name__ for node in tree.body]


@compared
def test_trace_counts_lines():
    import os
    import trace

    import shapes.area

    tracer = trace.Trace(count=1, trace=0)
    tracer.runfunc(shapes.area.square, 2)
    return sorted(
        [file, line]
        for file, line in tracer.results().counts
        if os.path.basename(os.path.dirname(file)) == "area"
    )


def test_packages_run_as_programs(python):
    for words in (
        ("-m", "program", "one", "two"),
        ("-m", "program.tool"),
        ("-m", "examples"),
        ("-m", "doctest", "-h"),
    ):
        expected = output(python, FILES, *words)
        for way in BUNDLED:
            assert output(python, way, *words) == expected


def test_modules_that_are_no_programs(python):
    def refused(way, name):
        result = start(python, way, "-m", name)
        # The path of the interpreter differs; our loaders have no frames of importlib's.
        text = masked(python, result.stderr.rpartition("/bin/python")[2])
        return result.status, [line for line in text.splitlines() if "<frozen" not in line]

    for name in ("no_such_module", "shapes", "spaced", "fast._fast", "shapes.old", "failing.body"):
        expected = refused(FILES, name)
        assert expected[0] == 1
        for way in BUNDLED:
            assert refused(way, name) == expected


def test_things_of_main_can_be_pickled(python, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import inspect, pickle, sys\n"
        "class Thing:\n"
        "    pass\n"
        "thing = pickle.loads(pickle.dumps(Thing()))\n"
        "print(type(thing) is Thing, Thing.__module__, pickle.dumps(Thing, 0))\n"
        "print(inspect.getsource(Thing), inspect.getsourcefile(Thing))\n"
        "main = sys.modules['__main__']\n"
        "print(main.__spec__, main.__file__, main.__package__, list(vars(main)))\n"
    )
    expected = output(python, FILES, script)
    for way in BUNDLED:
        assert output(python, way, script) == expected


def test_cloudpickle_and_dill_take_what_main_defines(python, tmp_path):
    # By value what the program itself defines, by name what lies in packages; read by another
    # process that doesn't have the program.
    write = tmp_path / "write.py"
    write.write_text(
        "import cloudpickle, dill, shapes.area, sys\n"
        "class Thing:\n"
        "    def area(self, side):\n"
        "        return scale * shapes.area.square(side)\n"
        "scale = 2\n"
        "def make():\n"
        "    inner = 3\n"
        "    return lambda: (inner, Thing().area(inner))\n"
        "for tool in cloudpickle, dill:\n"
        "    with open(f'{sys.argv[1]}/{tool.__name__}', 'wb') as file:\n"
        "        options = {'recurse': True} if tool is dill else {}\n"
        "        tool.dump([make(), Thing, shapes.area.square, shapes], file, **options)\n"
    )
    read = tmp_path / "read.py"
    read.write_text(
        "import importlib, inspect, pickle, sys\n"
        "for name in 'cloudpickle', 'dill':\n"
        "    importlib.import_module(name)\n"
        "    with open(f'{sys.argv[1]}/{name}', 'rb') as file:\n"
        "        call, cls, square, package = pickle.load(file)\n"
        "    print(name, call(), cls().area(5), cls.__module__, inspect.getsource(square))\n"
        "    print(package is sys.modules['shapes'], square is package.area.square)\n"
    )
    for way in (FILES, *BUNDLED):
        folder = tmp_path / way
        folder.mkdir()
        start(python, way, write, folder).check()
        for other in (FILES, *BUNDLED):
            got = output(python, other, read, folder)
            expected = output(python, FILES, read, tmp_path / FILES)
            assert got == expected, (way, other)
