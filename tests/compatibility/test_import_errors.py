"""What an import that fails raises, prints and leaves: compared with plain imports."""

from support.compared import BUNDLED, EMPTY, FILES, compared, masked, start


@compared
def test_missing_modules():
    from looking import import_error

    names = "no_such_module shapes.absent single.absent spaced.absent no.such.module files.data.no"
    return {name: import_error(name) for name in names.split()}


@compared
def test_missing_names():
    from looking import statement_error

    statements = [
        "from single import absent",
        "from shapes import absent",
        "from spaced import absent",
        "from shapes.area import absent",
        "from fast._fast import absent",
        "from circular import absent as other",
        "import shapes.area.absent",
        "from dynamic import absent",
        "import dynamic; dynamic.absent",
        "import single; single.absent",
        "import shapes; shapes.abstent",
        "from failing.names import HELPED",
    ]
    return {statement: statement_error(statement) for statement in statements}


@compared
def test_partially_initialised_modules():
    from looking import import_error

    found = {name: import_error(name) for name in ("circular.early", "circular.attribute")}
    assert "partially initialized module" in found["circular.early"]["text"]
    return found


@compared
def test_sources_that_dont_compile():
    from looking import import_error

    names = ["shapes.old", *(f"failing.{n}" for n in ("syntax", "indent", "encoding", "null"))]
    return {name: import_error(name) for name in names}


@compared
def test_bodies_that_raise():
    from looking import import_error

    names = "body outer chained leaving package".split()
    found = {name: import_error(f"failing.{name}") for name in names}
    assert found["body"]["frames"][-1][-1] == "return 1 // number"
    return found


@compared
def test_a_failed_import_can_be_tried_again():
    import sys

    from looking import import_error

    first, second = import_error("failing.body"), import_error("failing.body")
    left = [name for name in sys.modules if name.startswith("failing")]
    return [first["text"], second["text"], left]


@compared
def test_a_module_that_removes_itself():
    from looking import import_error

    return import_error("removing")


@compared
def test_names_that_no_import_takes():
    from looking import error_of, import_error

    names = [
        "",
        ".",
        "..single",
        "shapes..area",
        "single.",
        "shapes/area",
        "single.py",
        "pl\udc80in",
    ]
    found = {ascii(name): import_error(name) for name in names}
    found["bytes"] = error_of(__import__, b"single")
    found["none"] = error_of(__import__, None)
    found["null"] = import_error("single\0")
    return found


@compared
def test_relative_imports_that_go_too_far():
    from looking import import_error, statement_error

    return [
        import_error("deep.beyond"),
        statement_error("from . import single"),
        statement_error("from .. import single"),
    ]


@compared
def test_modules_set_to_none_are_refused():
    import sys

    from looking import import_error

    sys.modules["single"] = None
    return import_error("single")


UNCAUGHT = {
    "body": "import failing.body",
    "chained": "import failing.chained",
    "syntax": "import shapes.old",
    "missing": "import no_such_module",
    "circular": "import circular.early",
    "function": "import shapes.area; shapes.area.square(-1)",
    "sourceless": "import sourceless; sourceless.fail()",
    "exit": "import failing.leaving",
    "thread": "import threading, shapes.area as a\n"
    "t = threading.Thread(target=a.square, args=(-1,)); t.start(); t.join()",
    "C level": "import sys, shapes.area\ndel sys.excepthook\nshapes.area.square(-1)",
    "in a hook": "import sys, shapes.area\nsys.excepthook = sys.__excepthook__\n"
    "shapes.area.square(-1)",
}


def test_uncaught_errors_print_the_same(python, tmp_path):
    for name, text in UNCAUGHT.items():
        # A name that no module has.
        script = tmp_path / f"prints_{name}.py"
        script.write_text(text + "\n")
        expected = printed(python, FILES, script)
        for way in BUNDLED:
            assert printed(python, way, script) == expected


def test_every_python_prints_errors_by_itself(each_python, tmp_path):
    # Up to 3.12 the interpreter's own printer, in C, opens the files that frames name.
    script = tmp_path / "program.py"
    script.write_text(f"{UNCAUGHT['C level']}\n")
    expected = printed(each_python, FILES, script)
    assert "side" in expected[1]
    assert printed(each_python, EMPTY, script) == expected


def printed(python, way, script):
    """How a program ends, and its words."""
    result = start(python, way, script)
    return result.status, masked(python, result.stderr)
