"""Attaches a child of a run to its node image, then gives way to the next sitecustomize."""


def _attach(boot):
    import os
    import sys

    # Nobody else is to find what lies here.
    sys.path[:] = [entry for entry in sys.path if entry != boot]
    if sys.implementation.cache_tag != "@CACHE_TAG@":
        return
    if os.environ.get("PYBUNDLE_PREFIX") != sys.prefix:
        return
    sys.path.insert(0, boot)
    try:
        from pybundle import _attach
    finally:
        sys.path.remove(boot)
    _attach.attach()


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
