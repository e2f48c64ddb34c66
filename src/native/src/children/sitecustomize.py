"""Attaches a child of a run to its node image, then gives way to the next sitecustomize."""


def _attach(boot):
    import os
    import sys

    # Nobody else is to find what lies here.
    sys.path[:] = [entry for entry in sys.path if entry != boot]
    if sys.implementation.cache_tag != "@CACHE_TAG@":
        return
    if os.environ.get("PYBUNDLE_PREFIX") != sys.prefix or _needs_nothing(sys):
        return
    sys.path.insert(0, boot)
    try:
        from pybundle import _native
    except ImportError:
        from pybundle._site import is_subinterpreter

        if not is_subinterpreter():
            raise
        return
    finally:
        sys.path.remove(boot)
    _native.attach()


def _needs_nothing(sys):
    if sys.argv[:1] not in (["-m"], ["-c"]):
        return False
    try:
        words = sys.orig_argv
    except AttributeError:  # Python 3.9
        with open("/proc/self/cmdline", errors="replace") as file:
            words = file.read().split("\0")
    if sys.argv[0] == "-c":
        # A helper of multiprocessing that imports nothing, and outlives its parent.
        return any(word.startswith("from multiprocessing.resource_tracker ") for word in words)
    # `python -m pybundle run` loads by itself, perhaps another bundle.
    pairs = zip(words, words[1:])
    return "-mpybundle" in words or any(
        word[:1] == "-" and word[-1:] == "m" and name == "pybundle" for word, name in pairs
    )


def _give_way():
    import sys

    this = sys.modules.pop(__name__)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, this)


try:
    _attach(__file__.rpartition("/")[0])
except Exception as error:
    import sys

    print(f"pybundle: not attached: {error}", file=sys.stderr)
_give_way()
