"""Another portion of it, from another distribution."""

NAME = "two"
