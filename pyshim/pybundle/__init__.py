"""Pack a Python environment into one file, broadcast it with MPI, import from memory."""


def __getattr__(name):
    if name == "__version__":
        from pybundle._native import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
