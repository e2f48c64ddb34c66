"""``python -m pybundle COMMAND``: what needs Python is done here, the rest is the binary's."""

import sys

from pybundle import _check_python


def _binary():
    """Replace this process by the ``pybundle`` command of this installation."""
    import os
    import sysconfig

    package = os.path.dirname(os.path.abspath(__file__))
    user = f"{os.name}_user"
    folders = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", user) if user in sysconfig.get_scheme_names() else None,
        # pip install --target, --prefix
        os.path.join(package, "..", "bin"),
        os.path.join(package, "..", "..", "..", "..", "bin"),
    ]
    for folder in folders:
        path = folder and os.path.join(folder, "pybundle")
        if path and os.access(path, os.X_OK):
            os.execv(path, [path, *sys.argv[1:]])
    sys.exit(
        "error: the `pybundle` command is not installed beside this package\n"
        f"hint: install pybundle again with {sys.executable} -m pip install"
    )


def _main():
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "run":
        _check_python()
        from pybundle import _native

        return _native.run(sys.argv[2:])
    if command == "site":
        from pybundle import _site_command

        return _site_command.main(sys.argv[2:])
    if command == "mpi":
        from pybundle import _build_mpi

        return _build_mpi.main(sys.argv[2:])
    return _binary()


if __name__ == "__main__":
    sys.exit(_main())
