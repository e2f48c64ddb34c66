"""Pack a Python environment into one file, broadcast it with MPI, import from memory."""

import sys


def __getattr__(name):
    if name == "__version__":
        from pybundle._native import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_python():
    """End the process with a message if this is a free-threaded Python (PEP 703).

    The extension is built for the stable ABI, which has none for them before Python 3.15.
    """
    if "t" in getattr(sys, "abiflags", ""):
        import os

        version = ".".join(map(str, sys.version_info[:3]))
        message = (
            "error: this Python is not supported: expected CPython 3.9 to 3.14 with the global"
            f" interpreter lock, got CPython {version} without it (free-threaded):"
            f" `{sys.executable}`\n"
        )
        os.write(2, os.fsencode(message))
        # While site is imported, SystemExit would be a fatal error with a traceback.
        os._exit(1)
