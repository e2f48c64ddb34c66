"""The compiled half of pybundle."""

from collections.abc import Sequence
from os import PathLike
from typing import Literal

__version__: str

def run(arguments: Sequence[str | PathLike[str]]) -> None:
    """Run a program from a bundle; raises SystemExit with its status."""

def attach() -> bool:
    """Attach a child process to its parent's node image; false if it has none."""

def start_site(form: Literal["script", "module", "command", "stdin"], value: str) -> None:
    """Start a program that Python itself runs."""
