"""A package with an extension module."""

from ._fast import tally

__all__ = ["tally"]
