"""`importlib.resources` and `pkgutil`: compared with plain imports."""

from support.compared import compared


@compared
def test_pkgutil_lists_modules():
    import pkgutil
    import sys

    import portions
    import shapes
    import spaced

    folders = [path for path in sys.path if path.startswith(sys.prefix) and "META-INF" not in path]
    facts = {"top": [[m.name, m.ispkg] for m in pkgutil.iter_modules(folders)]}
    for package in (shapes, spaced, portions):
        found = pkgutil.iter_modules(package.__path__, package.__name__ + ".")
        facts[package.__name__] = sorted([m.name, m.ispkg] for m in found)
    finder = next(pkgutil.iter_modules(shapes.__path__)).module_finder
    facts["finder"] = [finder.path, isinstance(finder, type(pkgutil.get_importer(sys.path[0])))]
    facts["spec"] = finder.find_spec("area").name
    facts["all"] = "shapes" in {m.name for m in pkgutil.iter_modules()}
    return facts


@compared
def test_pkgutil_walks_packages():
    import pkgutil

    import deep
    import failing
    import shapes

    errors = []
    found = {
        package.__name__: [
            [m.name, m.ispkg]
            for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".", errors.append)
        ]
        for package in (deep, shapes, failing)
    }
    return found, errors


@compared
def test_pkgutil_reads_data():
    import pkgutil

    from looking import error_of

    return [
        pkgutil.get_data("files", "top.txt").decode(),
        pkgutil.get_data("files", "data/deeper/two.txt").decode(),
        pkgutil.get_data("files", "tests/sample.txt").decode(),
        pkgutil.get_data("files.tests", "sample.txt").decode(),
        pkgutil.get_data("shapes", "templates/latest.txt").decode(),
        pkgutil.get_data("files", "module.py").decode(),
        pkgutil.get_data("no_such_package", "x"),
        error_of(pkgutil.get_data, "files", "absent.txt"),
    ]


@compared
def test_pkgutil_resolves_names():
    import pkgutil

    from looking import error_of

    return [
        pkgutil.resolve_name("shapes.area:square").__name__,
        pkgutil.resolve_name("shapes.area.round.circle").__name__,
        pkgutil.resolve_name("spaced.two").__name__,
        error_of(pkgutil.resolve_name, "shapes:absent"),
        error_of(pkgutil.resolve_name, "absent:x"),
    ]


@compared
def test_pkgutil_finds_importers_and_loaders():
    import pkgutil
    import sys
    import warnings

    warnings.simplefilter("ignore")
    import shapes

    importer = pkgutil.get_importer(shapes.__path__[0])
    facts = [importer.path, importer.find_spec("shapes.area").origin]
    facts.append(importer is sys.path_importer_cache[shapes.__path__[0]])
    if hasattr(pkgutil, "find_loader"):
        facts.append(pkgutil.find_loader("shapes").get_filename("shapes"))
        facts.append(pkgutil.get_loader(shapes).name)
    return facts


@compared
def test_resources_are_files():
    import os
    from importlib import resources

    facts = {}
    for package in ("files", "files.tests", "shapes", "shapes.area"):
        root = resources.files(package)
        facts[package] = [
            os.fspath(root),
            type(root).__name__,
            sorted(path.name for path in root.iterdir() if path.name != "__pycache__"),
        ]
    root = resources.files("files")
    facts["joined"] = [
        (root / "data" / "one.txt").read_text(),
        root.joinpath("data/deeper/two.txt").read_bytes().decode(),
        (root / "tests/sample.txt").read_text(),
        (root / "data").is_dir(),
        (root / "absent").is_file(),
        (resources.files("shapes") / "templates/latest.txt").read_text(),
    ]
    with resources.as_file(root / "top.txt") as path:
        facts["as file"] = [os.fspath(path), path.exists()]
    return facts


@compared
def test_resources_of_folders_without_init():
    import sys
    from importlib import resources

    from looking import described

    facts = []
    for package in ("files.data", "files.plugins", "portions", "portions.data", "spaced"):
        try:
            root = resources.files(package)
            names = sorted(path.name for path in root.iterdir() if path.name != "__pycache__")
            facts.append([package, names, type(root).__name__, str(root)])
            facts.append([path.read_text() for path in [root / "one.txt"] if path.is_file()])
        except Exception as error:
            # Python 3.9 has no reader for namespace packages.
            assert sys.version_info < (3, 10), error
            facts.append([package, described(error)])
    return facts


@compared
def test_resources_of_the_old_kind():
    import warnings
    from importlib import resources

    from looking import error_of

    warnings.simplefilter("ignore")
    facts = [
        resources.read_text("files", "top.txt"),
        resources.read_binary("shapes", "data-\u00e4.csv").decode(),
        resources.is_resource("files", "top.txt"),
        resources.is_resource("files", "data"),
        resources.is_resource("files", "absent.txt"),
        sorted(name for name in resources.contents("files") if name != "__pycache__"),
        error_of(resources.read_text, "files", "absent.txt"),
    ]
    with resources.path("files.tests", "sample.txt") as path:
        facts.append([str(path), path.read_text()])
    with resources.open_text("files", "top.txt") as file:
        facts.append(file.name)
    return facts


@compared
def test_resource_readers_answer():
    import files
    from looking import error_of, loader_kind

    reader = files.__loader__.get_resource_reader("files")
    with reader.open_resource("top.txt") as file:
        text = file.read().decode()
    return [
        # Python 3.9's loaders are their own readers.
        loader_kind(reader),
        text,
        reader.resource_path("top.txt"),
        reader.is_resource("top.txt"),
        reader.is_resource("data"),
        sorted(name for name in reader.contents() if name != "__pycache__"),
        error_of(files.__loader__.get_resource_reader, "other"),
    ]
