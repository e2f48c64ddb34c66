"""Fails below a call."""

BEFORE = 1


def inner(number):
    return 1 // number


inner(0)
