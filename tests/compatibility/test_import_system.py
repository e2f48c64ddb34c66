"""The order of things during imports, and tools that change it: compared with plain imports."""

from support.compared import compared


@compared
def test_side_effects_keep_their_order():
    import order

    assert "begin of first" in order.EVENTS
    return order.EVENTS


@compared
def test_sys_modules_has_the_same_names_in_order():
    import sys

    before = set(sys.modules)
    import circular.left
    import deep.one
    import fast
    import shapes.cli
    import spaced.one
    import starred

    assert circular and deep and fast and shapes and spaced and starred
    return [name for name in sys.modules if name not in before]


@compared
def test_circular_imports():
    import circular.left
    import circular.right

    return [circular.left.other(), circular.right.other(), circular.right.SEEN]


@compared
def test_relative_imports():
    import deep.one.leaf

    return [deep.one.two, deep.one.leaf.NAME, deep.one.leaf.two.__name__]


@compared
def test_from_package_import_submodule():
    import sys

    from shapes import area, square
    from spaced import one, two

    before = "shapes.area.round" in sys.modules
    from shapes.area import round

    return [area.__name__, square.__name__, one.__name__, two.__name__, before, round.__name__]


@compared
def test_import_star():
    from looking import statement_error

    facts = {}
    for module in ("starred", "starred.plain", "dynamic", "shapes", "spaced"):
        namespace = {}
        exec(f"from {module} import *", namespace)
        facts[module] = sorted(set(namespace) - {"__builtins__"})
    facts["wrong"] = statement_error("from starred.wrong import *")
    return facts


@compared
def test_import_dunder_init():
    import importlib

    import shapes

    init = importlib.import_module("shapes.__init__")
    return [init is shapes, init.__name__, init.__file__, init.__package__]


@compared
def test_threads_import_once_each():
    import builtins
    import importlib
    import sys
    import threading

    sys.setswitchinterval(1e-5)
    names = "counted asserts deep.one.leaf fast._fast spaced.one shapes.cli dynamic".split()
    errors, seen = [], set()

    def load(name):
        try:
            seen.add((name, id(importlib.import_module(name))))
            if name == "counted":
                assert sys.modules[name].DONE
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=load, args=(name,)) for name in names * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [errors, builtins.COUNT, len(seen) == len(names)]


@compared
def test_threads_that_import_each_others_modules():
    import importlib
    import sys
    import threading

    # Each thread holds the lock that the other wants: importlib breaks the deadlock.
    errors, ended = [], 0
    gate = threading.Barrier(2)

    def load(name):
        gate.wait()
        try:
            importlib.import_module(name)
        except (ImportError, AttributeError, RuntimeError):
            # One of the threads may meet a half imported module, or be told of the deadlock.
            pass
        except BaseException as error:
            errors.append(repr(error))

    for _ in range(20):
        for name in [n for n in sys.modules if n.startswith("circular")]:
            del sys.modules[name]
        threads = [
            threading.Thread(target=load, args=(f"circular.{side}",)) for side in ("left", "right")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended += 1
    return errors, ended


@compared
def test_reload_keeps_the_module():
    import importlib

    import shapes
    import single
    import starred

    single.added, single.double = 1, None
    old = single.__spec__
    again = importlib.reload(single)
    importlib.reload(shapes)
    importlib.reload(starred)
    return [
        again is single,
        single.added,
        single.double(2),
        single.__spec__ is old,
        single.__spec__ == old,
        shapes.__path__,
    ]


@compared
def test_reload_of_what_cant_be():
    import importlib
    import sys

    import replacing
    import single
    from looking import error_of

    del sys.modules["single"]
    return [
        error_of(importlib.reload, single),
        error_of(importlib.reload, replacing),
        error_of(importlib.reload, "single"),
    ]


@compared
def test_reload_of_extension_and_namespace():
    import importlib

    import fast._fast
    import spaced

    again = importlib.reload(fast._fast)
    importlib.reload(spaced)
    return [again is fast._fast, spaced.__path__._path, type(spaced.__path__).__name__]


@compared
def test_modules_made_at_run_time():
    import importlib
    import os
    import sys

    sys.path.append(os.getcwd())
    try:
        import made_late
    except ImportError:
        with open("made_late.py", "w") as file:
            file.write("MADE = True\n")
    importlib.invalidate_caches()
    import made_late

    return made_late.__file__


@compared
def test_modules_written_beside_packed_ones():
    # Code generators write where a package lies, then ask for what they have written.
    import importlib
    import os

    import dynamic

    folder = os.path.dirname(dynamic.__file__)
    os.chmod(folder, 0o755)
    path = os.path.join(folder, "generated.py")
    with open(path, "w") as file:
        file.write("NAME = 'generated'\n")
    try:
        importlib.invalidate_caches()
        import dynamic.generated

        return [dynamic.generated.NAME, dynamic.generated.__file__]
    finally:
        os.unlink(path)


@compared
def test_modules_that_replace_themselves():
    import importlib
    import sys

    import replacing

    return [
        type(replacing).__name__,
        replacing.value,
        importlib.import_module("replacing") is replacing,
        sys.modules["replacing"] is replacing,
    ]


@compared
def test_lazy_loader():
    import importlib.util
    import sys

    facts = []
    for name in ("single", "shapes.area", "sourceless"):
        importlib.import_module(name.rpartition(".")[0] or "sys")
        spec = importlib.util.find_spec(name)
        sys.modules.pop(name, None)
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        before = type(module).__name__
        facts.append([before, module.__doc__, type(module).__name__, len(vars(module)) > 5])
    facts.append(type(importlib.util.LazyLoader.factory(type(spec.loader))).__name__)
    return facts


@compared
def test_module_getattr_and_dir():
    import sys

    import dynamic
    from dynamic import made

    before = "dynamic.sub" in sys.modules
    return [made, before, dynamic.sub.NAME, dir(dynamic), hasattr(dynamic, "absent")]


@compared
def test_warnings_name_file_and_line():
    import importlib

    from looking import warned

    def load():
        importlib.import_module("warning")

    found = {"imported": warned(load)}
    import warning

    found["caller"] = warned(warning.old)
    found["through"] = warned(warning.through)
    found["again"] = warned(lambda: importlib.reload(warning))
    return found


@compared
def test_hooks_on_meta_path_come_first():
    import sys

    asked = []

    class Watch:
        @staticmethod
        def find_spec(name, path=None, target=None):
            asked.append([name, path and list(path), target is None])

    sys.meta_path.insert(0, Watch)
    import shapes.area.round
    import spaced.one

    assert shapes and spaced
    return asked


@compared
def test_import_replaced_in_builtins():
    import builtins

    original, asked = builtins.__import__, []

    def watched(name, globals=None, locals=None, fromlist=(), level=0):
        importer = (globals or {}).get("__name__")
        # importlib's own loaders import modules of the standard library; ours don't.
        if not importer.startswith("importlib"):
            asked.append([name, importer, fromlist and list(fromlist), level])
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = watched
    import shapes

    builtins.__import__ = original
    assert shapes
    return asked


@compared
def test_audit_events_of_imports():
    import sys

    asked = []

    def hook(event, arguments):
        if event == "import":
            asked.append([arguments[0], arguments[1]])

    import math

    assert math
    sys.addaudithook(hook)
    import shapes.area.round
    import single

    assert single and shapes
    return [pair for pair in asked if pair[1] is None]
