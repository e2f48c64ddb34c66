"""Reads files of the package, both ways that programs do."""

import pkgutil
from pathlib import Path


def beside(name):
    """The text of a file, by its path."""
    return (Path(__file__).parent / "templates" / name).read_text()


def asked(name):
    """The text of a file, by asking the loader."""
    return pkgutil.get_data("shapes", f"templates/{name}").decode()
