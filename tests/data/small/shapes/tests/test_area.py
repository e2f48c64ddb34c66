"""Tests that nobody imports."""


def test_square():
    from shapes import square

    assert square(2) == 4
