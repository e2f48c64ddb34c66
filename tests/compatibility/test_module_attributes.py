"""What a program can read off a module: compared with plain imports."""

from support.compared import compared


@compared
def test_specs_are_equal():
    import importlib

    from looking import spec_of

    names = "single shapes shapes.area.round fast._fast spaced spaced.one sourceless portions"
    names += " portions.data beside files.tests dynamic order.first"
    return {name: spec_of(importlib.import_module(name).__spec__) for name in names.split()}


@compared
def test_find_spec_without_importing():
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    from looking import error_of, spec_of

    names = "single shapes spaced sourceless no_such_module shapes.area files.no_such"
    found = {name: spec_of(find_spec(name)) for name in names.split()}
    found["PathFinder"] = spec_of(PathFinder.find_spec("single"))
    found["below a module"] = error_of(find_spec, "single.absent")
    found["relative"] = spec_of(find_spec(".area", "shapes"))
    return found


@compared
def test_module_attributes_are_equal():
    import importlib

    facts = {}
    for name in "single shapes shapes.area fast._fast spaced sourceless files.tests".split():
        module = importlib.import_module(name)
        facts[name] = {
            "file": getattr(module, "__file__", "absent"),
            "cached": getattr(module, "__cached__", "absent"),
            "package": module.__package__,
            "doc": module.__doc__,
            "path": [type(getattr(module, "__path__", None)).__name__],
            "names": list(vars(module)),
            "dir": dir(module),
            "loader": module.__loader__ is module.__spec__.loader,
        }
        facts[name]["path"] += getattr(module, "__path__", [])
    return facts


@compared
def test_repr_of_modules():
    import fast._fast
    import shapes
    import single
    import sourceless
    import spaced

    # A namespace package's repr names its loader from Python 3.11 on.
    return [repr(m) for m in (single, shapes, fast._fast, sourceless, spaced)]


@compared
def test_loaders_have_importlibs_methods():
    import importlib

    facts = {}
    for name in "single shapes fast._fast spaced sourceless files".split():
        loader = importlib.import_module(name).__loader__
        methods = (
            "create_module exec_module load_module get_code get_source get_data get_filename "
            "is_package get_resource_reader path_stats path_mtime set_data source_to_code contents"
        )
        facts[name] = [method for method in methods.split() if hasattr(loader, method)]
        facts[name].append(getattr(loader, "name", "absent"))
        facts[name].append(getattr(loader, "path", "absent"))
    return facts


@compared
def test_loaders_answer_as_importlibs():
    import importlib
    import os

    from looking import error_of

    facts = {}
    for name in "single shapes fast._fast sourceless shapes.area.round".split():
        module = importlib.import_module(name)
        loader = module.__loader__
        code = loader.get_code(name)
        source = loader.get_source(name)
        facts[name] = {
            "file name": loader.get_filename(name),
            "package": loader.is_package(name),
            "source": source,
            "code": code and [code.co_filename, code.co_names, code.co_firstlineno],
            "data": len(loader.get_data(module.__file__)) == os.stat(module.__file__).st_size,
            "other module": error_of(loader.get_filename, "other"),
            "other file": error_of(loader.get_data, "/no/such/file"),
        }
        if hasattr(loader, "path_stats"):
            stats = loader.path_stats(module.__file__)
            facts[name]["stats"] = sorted(stats), stats["size"]
            facts[name]["time"] = stats["mtime"] == os.stat(module.__file__).st_mtime
            facts[name]["mtime"] = error_of(loader.path_mtime, module.__file__)
    return facts


@compared
def test_loaders_compare_hash_and_pickle():
    import copy
    import pickle

    import shapes
    import single

    loader = shapes.__loader__
    again = pickle.loads(pickle.dumps(loader))
    copied = copy.copy(shapes.__spec__)
    return [
        again == loader,
        hash(again) == hash(loader),
        loader == single.__loader__,
        copied == shapes.__spec__,
        again.get_filename("shapes"),
    ]


@compared
def test_specs_make_modules_by_hand():
    import importlib.util
    import sys

    spec = importlib.util.find_spec("single")
    module = importlib.util.module_from_spec(spec)
    before = list(vars(module))
    spec.loader.exec_module(module)
    import single

    located = importlib.util.spec_from_file_location("elsewhere", single.__file__)
    other = importlib.util.module_from_spec(located)
    located.loader.exec_module(other)
    from_loader = importlib.util.spec_from_loader("single", spec.loader)
    return [
        before,
        module.double(2),
        module is single,
        other.double(3),
        "elsewhere" in sys.modules,
        repr(other),
        from_loader.origin,
    ]


@compared
def test_load_module_of_the_old_kind():
    import sys
    import warnings
    from importlib.util import find_spec

    warnings.simplefilter("ignore")
    facts = []
    for name in ("single", "shapes.area", "fast._fast", "sourceless"):
        spec = find_spec(name)
        module = spec.loader.load_module(name)
        facts.append([module.__name__, module.__file__, sys.modules[name] is module])
    return facts


@compared
def test_code_objects_name_their_files():
    import shapes.area.round
    import sourceless

    import examples

    return [
        shapes.area.round.circle.__code__.co_filename,
        examples.Pair.first.__code__.co_filename,
        examples.Pair.first.__code__.co_firstlineno,
        sourceless.fail.__code__.co_filename.rpartition("site-packages")[2],
        [
            const.co_filename
            for const in examples.__loader__.get_code("examples").co_consts
            if hasattr(const, "co_filename")
        ],
    ]
