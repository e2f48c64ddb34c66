"""Site integration: ``PYBUNDLE=FILE python app.py`` starts from the bundle.

A ``.pth`` line imports this module if ``PYBUNDLE`` is set, while ``site`` still completes
``sys.path``. When it has, it looks for a ``sitecustomize``: a finder of ours is asked first, starts
the loader, and answers that it knows of none, so that the environment's own is found as ever.
"""

import os
import sys

from pybundle import _check_python

#: Programs that work on the environment itself, or bring their own.
TOOLS = {
    "build",
    "conda",
    "ensurepip",
    "hatch",
    "mamba",
    "micromamba",
    "pipenv",
    "pipx",
    "poetry",
    "pybundle",
    "twine",
    "uv",
    "venv",
    "virtualenv",
}


def program():
    """The program that Python is about to run, as its form and its name or text."""
    first = sys.argv[0] if sys.argv else ""
    if first not in ("-m", "-c"):
        return ("stdin", "") if first in ("", "-") else ("script", first)
    form = "module" if first == "-m" else "command"
    arguments = iter(_original_arguments()[1:])
    for argument in arguments:
        if argument.startswith("--"):
            # The one long option with a value of its own.
            if argument == "--check-hash-based-pycs":
                next(arguments, None)
            continue
        # Short options may stand together: -Im NAME, -mNAME; -W and -X take what follows.
        for at, letter in enumerate(argument[1:], 1):
            rest = argument[at + 1 :]
            if letter in "cm":
                return form, rest or next(arguments, "")
            if letter in "WX":
                if not rest:
                    next(arguments, None)
                break
    return form, ""


def _original_arguments():
    try:
        return sys.orig_argv
    except AttributeError:  # Python 3.9
        with open("/proc/self/cmdline", "rb") as file:
            return [os.fsdecode(argument) for argument in file.read().split(b"\0")[:-1]]


def is_tool(form, value):
    """Whether a program is better left alone: installers and makers of environments."""
    if form == "module":
        name = value.partition(".")[0]
    elif form == "script":
        name = os.path.basename(value)
        name = name[:-3] if name.endswith(".py") else name
    else:
        return False
    # pip, pip3, pip3.11
    return name in TOOLS or name.rstrip("0123456789.") == "pip"


def is_subinterpreter():
    """Whether this isn't the process's first interpreter: `site` runs in each of them.

    From Python 3.12 on the extension refuses to be loaded there; they import from files.
    """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    return interpreters.get_current() != interpreters.get_main()


class _Finder:
    """Asked for ``sitecustomize`` when ``sys.path`` is complete."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "sitecustomize":
            return None
        sys.meta_path.remove(_Finder)
        form, value = program()
        if not is_tool(form, value):
            _check_python()
            try:
                from pybundle import _native
            except ImportError:
                if not is_subinterpreter():
                    raise
            else:
                _native.start_site(form, value)
        return None


def arm():
    """Called by the ``.pth`` line."""
    if sys.flags.isolated or os.environ.get("PYBUNDLE_DISABLE") == "1":
        return
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
