"""Import modules and write down all that a program can see of them: ``look.py QUESTION ANSWER``.

The question is a JSON list of names, top-level modules first. Run once by an environment's own
interpreter and once from its bundle; the answers are compared. What names the environment is
masked, nothing else: a path that leads back to the original folder is a difference.
"""

import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.resources
import inspect
import json
import os
import pkgutil
import re
import sys
import types
import warnings

BEFORE = set(sys.modules)
LOADERS = ("SourceFileLoader", "ExtensionFileLoader", "SourcelessFileLoader")
# What differs between any two files' specs, or is looked at by itself.
APART = {"__spec__", "__loader__", "__builtins__", "__warningregistry__"}


def mask(value):
    """A value that JSON can hold, the same wherever the environment lies."""
    if isinstance(value, (list, tuple)):
        return [mask(part) for part in value]
    if isinstance(value, str):
        # The interpreter of an empty environment runs the bundle: its folder is not the tree's.
        value = value.replace(os.path.dirname(sys.executable), "BIN").replace(sys.prefix, "ENV")
        value = value.replace(sys.base_prefix, "BASE")
        value = re.sub(r"ENV/META-INF/pybundle/roots/\d+(?=/lib/python)", "BASE", value)
        # Addresses; descriptors, of which the image holds some.
        return re.sub(r"\b(0x|fd=)[0-9a-f]+", "NUMBER", value)
    if isinstance(value, (int, float, bool, type(None))):
        return value
    # The bundle's loaders are subclasses of importlib's, with names of their own.
    kinds = [kind for kind in LOADERS if isinstance(value, getattr(importlib.machinery, kind))]
    return kinds[0] if kinds else mask(type(value).__name__)


def attempt(function, *args):
    """What a function gives or raises."""
    try:
        return mask(function(*args))
    except BaseException as error:
        return described(error)


def described(error):
    return ["raised", type(error).__name__, mask(str(error))]


def digest(function, *args):
    """A short word for a long text."""
    return hashlib.sha256(function(*args).encode(errors="replace")).hexdigest()[:12]


def spec_of(module):
    spec = module.__spec__
    if spec is None:
        return None
    kind = mask(spec.loader)
    kinds = kind in LOADERS
    path = spec.submodule_search_locations
    return {
        "name": spec.name,
        "origin": mask(spec.origin),
        "cached": mask(spec.cached),
        "parent": spec.parent,
        "has location": spec.has_location,
        "search": None if path is None else mask(list(path)),
        "loader": kind,
        "loader of the module": spec.loader is getattr(module, "__loader__", None),
        "filename": attempt(spec.loader.get_filename) if kinds else None,
        "package": attempt(spec.loader.is_package, spec.name) if kinds else None,
    }


def of_module(module):
    """The facts of one module."""
    names = vars(module)
    facts = {
        "dir": attempt(lambda: sorted(map(str, dir(module)))),
        "values": {str(name): mask(names[name]) for name in list(names) if name not in APART},
        "repr": attempt(repr, module),
        "spec": attempt_spec(module),
        "source": attempt(digest, inspect.getsource, module),
    }
    path = names.get("__path__")
    if path is not None:
        path = attempt(list, path) and list(path)
        facts["listed"] = attempt(lambda: [[m.name, m.ispkg] for m in pkgutil.iter_modules(path)])
    return facts


def attempt_spec(module):
    try:
        return spec_of(module)
    except BaseException as error:
        return described(error)


def resources_of(name):
    """The names that `importlib.resources` lists in a package."""
    return sorted(part.name for part in importlib.resources.files(name).iterdir()
                  if part.name != "__pycache__")


def files_below(module):
    """Every file below a package's folders; of a namespace package the folders alone.

    Tests come into the tree when one of them is looked for, and the parts of a namespace package
    with their distributions.
    """
    found = []
    namespace = getattr(module, "__file__", None) is None
    for place in getattr(module, "__path__", ()):
        for top, folders, files in os.walk(place):
            folders[:] = [part for part in folders if part not in ("__pycache__", "tests", "test")]
            names = folders if namespace else files
            found += [os.path.relpath(os.path.join(top, name), place) for name in names]
    return sorted(found)


def distributions():
    """What `importlib.metadata` says of everything installed."""
    return sorted(
        [d.metadata["Name"], d.version, d.metadata["Summary"], sorted(d.requires or []),
         sorted(map(str, d.files or [])), sorted(map(str, d.entry_points)),
         mask(str(d.locate_file("")))]
        for d in importlib.metadata.distributions() if d.metadata["Name"] != "pybundle"
    )


def main(question, answer):
    with open(question) as file:
        names = json.load(file)
    # Some modules keep paths relative to the working directory.
    os.chdir(sys.prefix)
    outcomes, top = {}, {}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for name in names:
            try:
                module = importlib.import_module(name)
                outcomes[name] = "imported"
            except BaseException as error:
                outcomes[name] = described(error)
                continue
            if "." not in name:
                top[name] = {
                    "resources": attempt(resources_of, name),
                    "files": attempt(files_below, module),
                }
    # What looking at modules imports or warns of is compared no more.
    added = sorted(set(sys.modules) - BEFORE)
    said = [[w.category.__name__, mask(str(w.message)), mask(w.filename), w.lineno] for w in warned]
    warnings.simplefilter("ignore")
    modules = {}
    for name in added:
        module = sys.modules.get(name)
        if isinstance(module, types.ModuleType):
            modules[name] = of_module(module)
    whole = {
        "outcomes": outcomes, "top": top, "before": sorted(BEFORE), "added": added,
        "warnings": said, "modules": modules,
        "path": mask([part for part in sys.path if part.startswith(sys.prefix) and "META-INF" not in part]),
        "distributions": distributions() if not names else [],
    }
    with open(answer, "w") as file:
        json.dump(whole, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
