"""A subpackage."""


def square(side):
    """The area of a square."""
    if side < 0:
        raise ValueError(f"negative side: {side}")
    return side * side
