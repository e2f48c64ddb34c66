"""How a Python that runs from a node image, or is started by one that does, gets its finder."""

import os
import sys


def attach(image=None):
    """Attach to a node image: the one named, or that of the process that started this one."""
    in_tree = image is not None or sys.prefix == os.environ.get("PYBUNDLE_IMAGE", "") + "/tree"
    # What runs from the tree has no standard library but the bundle's.
    if _loads_by_itself() or (_needs_nothing() and not in_tree):
        return
    try:
        from . import _native
    except ImportError:
        from ._site import is_subinterpreter

        if not is_subinterpreter():
            raise
        return
    _native.attach(image)


def _words():
    try:
        return sys.orig_argv
    except AttributeError:  # Python 3.9
        with open("/proc/self/cmdline", errors="replace") as file:
            return file.read().split("\0")


def _needs_nothing():
    """A helper of multiprocessing that imports nothing, and outlives its parent?"""
    helper = "from multiprocessing.resource_tracker "
    return sys.argv[:1] == ["-c"] and any(word.startswith(helper) for word in _words())


def _loads_by_itself():
    """`python -m pybundle run`, perhaps another bundle?"""
    if sys.argv[:1] != ["-m"]:
        return False
    words = _words()
    return "-mpybundle" in words or any(
        word[:1] == "-" and word[-1:] == "m" and name == "pybundle"
        for word, name in zip(words, words[1:])
    )
