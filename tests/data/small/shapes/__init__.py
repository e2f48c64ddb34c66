"""A package with everything that packages have."""

from .area import square

__all__ = ["square"]
__version__ = "2.1"
