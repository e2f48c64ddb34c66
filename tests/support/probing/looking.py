"""What probes use to look at modules and errors; beside their script, so both ways import it."""

import importlib
import os
import sys
import traceback
import warnings


def error_of(function, *args):
    """Everything about an exception, its traceback without the probe's own frames."""
    try:
        result = function(*args)
    except BaseException as error:
        return described(error)
    raise AssertionError(f"no error but {result!r}")


def described(error):
    """Type, message, attributes, cause and the frames below the caller's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = {__file__, sys.argv[0], sys.argv[1]}
    return {
        "type": type(error).__name__,
        "text": str(error),
        "args": [str(arg) for arg in error.args],
        "attributes": {
            name: str(getattr(error, name, "absent"))
            for name in ("name", "path", "name_from", "filename", "lineno", "offset", "text")
        },
        "frames": [
            [frame.filename, frame.lineno, frame.name, frame.line]
            for frame in frames
            # Our loaders have no frames; printing leaves importlib's out as well.
            if frame.filename not in own and not frame.filename.startswith("<frozen importlib")
        ],
        "printed": traceback.format_exception_only(type(error), error),
        "cause": described(error.__cause__) if error.__cause__ else None,
        "context": described(error.__context__) if error.__context__ else None,
    }


def import_error(name):
    """The error that importing a module gives, and what it leaves in sys.modules."""
    before = set(sys.modules)
    error = error_of(importlib.import_module, name)
    error["left"] = [name for name in sys.modules if name not in before]
    return error


def statement_error(statement):
    """The error of an import statement."""
    return error_of(exec, statement, {"__name__": "statement"})


def spec_of(spec):
    """All attributes of a spec but the loader itself."""
    if spec is None:
        return None
    locations = spec.submodule_search_locations
    return {
        "type": type(spec).__name__,
        "name": spec.name,
        "origin": spec.origin,
        "cached": spec.cached,
        "parent": spec.parent,
        "has_location": spec.has_location,
        "loader_state": spec.loader_state,
        "locations": None if locations is None else [type(locations).__name__, *locations],
        "initializing": getattr(spec, "_initializing", "absent"),
        "loader": loader_kind(spec.loader),
        "more": sorted(name for name in vars(spec) if name != "_uninitialized_submodules"),
    }


def loader_kind(loader):
    """The class of importlib that a loader is an instance of."""
    kinds = ("SourceFileLoader", "SourcelessFileLoader", "ExtensionFileLoader")
    for kind in kinds:
        if isinstance(loader, getattr(importlib.machinery, kind)):
            return kind
    return type(loader).__name__


def warned(function):
    """What a function warns of, where, and on which line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [
        [w.category.__name__, str(w.message), os.path.basename(w.filename), w.lineno]
        if w.filename == sys.argv[1]
        else [w.category.__name__, str(w.message), w.filename, w.lineno]
        for w in caught
    ]
