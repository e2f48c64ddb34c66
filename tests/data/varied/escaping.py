"""Compiling it warns."""

PATTERN = "\d"
