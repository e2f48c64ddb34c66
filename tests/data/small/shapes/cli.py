"""The command of the package's entry point."""

import sys

from . import square


def main():
    """Print the area of a square."""
    print(square(float(sys.argv[1])))
    return 0
