"""One portion of a namespace package."""

NAME = "one"
