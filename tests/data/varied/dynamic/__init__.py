"""Names that exist when they are asked for."""

import importlib

__all__ = ["made", "sub"]


def __getattr__(name):
    if name == "made":
        return 42
    if name == "sub":
        return importlib.import_module("dynamic.sub")
    raise AttributeError(f"no {name} in {__name__}")


def __dir__():
    return ["made", "sub"]
