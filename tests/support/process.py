"""Run a program with a hard end: what it started is killed with it, and a hang is named."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .paths import TEST

# In the environment of everything that a run starts: launchers put their ranks into sessions and
# process groups of their own, so nothing else finds them all.
TAG = "PYBUNDLE_TEST_RUN"

# Variables that belong to whatever started the tests, not to the programs under test.
FOREIGN = (
    "PYBUNDLE",
    "PYTHON",
    "OMPI_",
    "PMIX_",
    "PMI_",
    "PRTE_",
    "MPI4PY",
    "HYDRA_",
    "VIRTUAL_ENV",
)


class Hang(AssertionError):
    """A program did not end in time."""


@dataclass
class Result:
    """How a program ended."""

    args: list[str]
    status: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"status {self.status} after {self.seconds:.1f} s: {shlex.join(self.args)}\n"
            f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        )

    def check(self, status: int = 0) -> Result:
        """Fail, showing the output, unless the status is the expected one."""
        assert self.status == status, f"expected status {status}, got {self}"
        return self


def clean_environment(**extra: str | None) -> dict[str, str]:
    """This process' environment without what would change the programs under test.

    ``extra`` sets variables; None removes one.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env["XDG_CACHE_HOME"] = str(TEST / "cache")
    for name, value in extra.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env


# Time for what stays behind when a program has ended: who removes the image of an aborted job,
# the servers of `multiprocessing`. What needs longer is killed.
LINGER = 5


def run(
    args: Sequence[object],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 60,
    stdin: str | None = None,
) -> Result:
    """Run a program to its end; raises :class:`Hang` after ``timeout`` seconds.

    Its output goes through files, so a process that stays behind with them open blocks nobody.
    """
    words = [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in args]
    tag = uuid.uuid4().hex
    full = dict(clean_environment() if env is None else env)
    full[TAG] = tag
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with tempfile.TemporaryFile() as given:
            given.write((stdin or "").encode())
            given.seek(0)
            process = subprocess.Popen(
                words,
                stdin=given,
                stdout=out,
                stderr=err,
                env=full,
                cwd=cwd,
                start_new_session=True,
            )
        try:
            status = process.wait(timeout)
            hang = None
        except subprocess.TimeoutExpired:
            hang = "\n".join(_describe(pid) for pid in _tagged(tag))
            status = -signal.SIGKILL
        finally:
            seconds = time.monotonic() - begin
            if process.returncode is not None:
                _await_end(tag)
            _kill(tag)
            process.wait()
        out.seek(0)
        err.seek(0)
        texts = (stream.read().decode(errors="replace") for stream in (out, err))
        result = Result(words, status, *texts, seconds)
    if hang is not None:
        raise Hang(f"hang: no end within {timeout:.0f} s; alive were:\n{hang}\n{result}")
    return result


def _tagged(tag: str) -> list[int]:
    found = []
    wanted = f"{TAG}={tag}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in words:
                found.append(int(entry.name))
    return sorted(found)


def _await_end(tag: str) -> None:
    end = time.monotonic() + LINGER
    while time.monotonic() < end:
        if all(_state(pid) in ("Z", "X", "") for pid in _tagged(tag)):
            return
        time.sleep(0.02)


def _kill(tag: str) -> None:
    """Kill all that the run has left; what is killed can't start more, so few rounds suffice."""
    for _ in range(20):
        left = [pid for pid in _tagged(tag) if _state(pid) not in ("Z", "X", "")]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _describe(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        wait = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return f"  {pid} (ended meanwhile)"
    return f"  {pid} {_state(pid)} {wait} {' '.join(words)[:200]}"
