"""A package with modules that fail."""
