"""Warns while it is imported, and for its caller."""

import warnings

warnings.warn("imported", stacklevel=2)
warnings.warn("here")


def old():
    warnings.warn("old is old", DeprecationWarning, stacklevel=2)


def through():
    old()
