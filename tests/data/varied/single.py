"""A module alone, which nothing imports at start."""


def double(number):
    """Twice the number."""
    return 2 * number
