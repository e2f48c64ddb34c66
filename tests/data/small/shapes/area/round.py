"""A module below a subpackage."""

import math


def circle(radius):
    """The area of a circle."""
    return math.pi * radius**2
