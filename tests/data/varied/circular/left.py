from . import right

NAME = "left"


def other():
    return right.NAME
