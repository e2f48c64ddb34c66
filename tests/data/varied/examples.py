"""Has examples.

>>> twice(2)
4
"""


def twice(number):
    """
    >>> twice(3)
    6
    >>> twice(4)
    9
    """
    return 2 * number


class Pair:
    """A class with a method."""

    def first(self):
        """The first.

        >>> Pair().first()
        'first'
        """
        return "first"
