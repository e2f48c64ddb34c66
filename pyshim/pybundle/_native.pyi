"""The compiled half of pybundle."""

from collections.abc import Sequence
from os import PathLike
from typing import Literal

__version__: str

def run(arguments: Sequence[str | PathLike[str]]) -> None:
    """Run a program from a bundle; raises SystemExit with its status."""

def attach(image: str | None = ...) -> bool:
    """Attach a child process to its parent's node image, or the packed Python to its own."""

def hold(image: str, job: str, plugin: str | None) -> None:
    """Hold what pybundle-python has loaded."""

def take_over(
    words: Sequence[str],
    form: Literal["script", "module", "command", "stdin", ""],
    value: str,
) -> None:
    """Go on with what pybundle-python has begun."""

def main(rest: Sequence[str]) -> None:
    """Run the program that was taken over; raises SystemExit with its status."""

def start_site(form: Literal["script", "module", "command", "stdin"], value: str) -> None:
    """Start a program that Python itself runs."""
