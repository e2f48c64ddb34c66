"""A module that is a whole distribution."""

HOOKS = []


def double(number):
    """Twice the number."""
    return 2 * number
