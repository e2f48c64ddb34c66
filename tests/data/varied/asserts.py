"""A docstring."""

try:
    assert False
except AssertionError:
    ASSERTED = True
else:
    ASSERTED = False
DEBUG = __debug__
