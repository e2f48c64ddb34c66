"""`importlib.metadata` and `pkg_resources`: compared with plain imports."""

from support.compared import compared


@compared
def test_distributions_are_listed_once():
    from importlib import metadata

    found = [d for d in metadata.distributions() if d.metadata["Name"] != "pybundle"]
    names = [d.metadata["Name"] for d in found]
    assert len(names) == len(set(names)), names
    return sorted([d.metadata["Name"], d.version, str(d.locate_file("x"))] for d in found)


@compared
def test_names_are_normalised():
    from importlib import metadata

    from looking import error_of

    names = "circular-things Circular.Things CIRCULAR_THINGS failing-things Failing.Things".split()
    names += ["files_and_data", "Files.And-Data", "spaced_one", "zipped", "no-such-thing", "shape"]
    facts = {}
    for name in names:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = error_of(metadata.version, name)
    return facts


@compared
def test_metadata_texts_and_requirements():
    from importlib import metadata

    import files

    found = metadata.distribution("shapes")
    return [
        sorted(metadata.metadata("setuptools").keys()),
        metadata.requires("shapes"),
        found.read_text("INSTALLER"),
        found.read_text("RECORD"),
        found.read_text("absent"),
        str(found.locate_file("shapes/area")),
        files.__name__,
    ]


@compared
def test_files_of_distributions_exist():
    from importlib import metadata

    facts = {}
    for name in ("shapes", "fast", "spaced-one", "files-and-data", "plain"):
        # Nothing of them is imported; bytecode stays in memory.
        facts[name] = [
            [str(p), p.size, p.hash and p.hash.value, p.locate().exists(), len(p.read_binary())]
            for p in metadata.files(name)
            if p.suffix != ".pyc"
        ]
    assert len(facts["shapes"]) > 10
    return facts


@compared
def test_entry_points_load():
    import sys
    from importlib import metadata

    points = metadata.entry_points()
    group = points.select(group="small.plugins") if sys.version_info >= (3, 10) else None
    if group is None:
        group = points["small.plugins"]
    facts = sorted([p.name, p.value, p.group, str(p.load())] for p in group)
    own = metadata.distribution("shapes").entry_points
    return [facts, sorted(p.name for p in own)]


@compared
def test_packages_distributions():
    import sys
    from importlib import metadata

    if sys.version_info < (3, 10):
        return None
    found = metadata.packages_distributions()
    found.pop("pybundle", None)
    names = ("shapes", "spaced", "plain", "found_project", "zipped")
    return {name: sorted(found.get(name, [])) for name in names}, sorted(found)


@compared
def test_metadata_of_editable_installs():
    from importlib import metadata

    return [metadata.version("linked-project"), metadata.version("found_project")]


@compared
def test_pkg_resources_of_setuptools():
    import warnings

    warnings.simplefilter("ignore")
    import pkg_resources
    from looking import error_of

    keys = sorted(d.key for d in pkg_resources.working_set if d.key != "pybundle")
    found = pkg_resources.get_distribution("Circular.Things")
    points = sorted(p.name for p in pkg_resources.iter_entry_points("small.plugins"))
    loaded = pkg_resources.load_entry_point("shapes", "small.plugins", "square")
    return [
        keys,
        [found.version, found.location, found.project_name],
        points,
        loaded.__name__,
        pkg_resources.resource_string("files", "top.txt").decode(),
        pkg_resources.resource_filename("files", "data/one.txt"),
        # It lists folders by path, where tests aren't before something in them is imported.
        sorted(set(pkg_resources.resource_listdir("files", "")) - {"__pycache__", "tests"}),
        pkg_resources.resource_isdir("files", "data"),
        pkg_resources.resource_exists("files", "data/deeper/two.txt"),
        pkg_resources.resource_string("zipped", "data.txt").decode(),
        [d.version for d in pkg_resources.require("shapes")],
        error_of(pkg_resources.require, "shapes>3")["type"],
        pkg_resources.parse_version("1.0") == pkg_resources.parse_version("1"),
        "declared" in pkg_resources._namespace_packages,
    ]
