"""What a job takes of its node's memory: the image's folder, and what its ranks hold beside it."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# In the environment of a watched job; launchers hand it on.
MARK = "BENCH_WATCHED"
RANKS = (b"PMI_RANK=", b"PMIX_RANK=")
"""What tells a rank from its launcher."""

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ...(.) \S+ \S+ \d+ *(.*)$")


@dataclass(frozen=True)
class Sample:
    """Bytes at one moment."""

    image: int
    """Blocks of the image's folder."""
    ranks: int
    """What :func:`beside_image` says, over all ranks."""


@dataclass
class Watch:
    """Looks at a job again and again, from outside, until the ``with`` block ends."""

    node_dir: Path
    ranks: bool = True
    """Look at the ranks too; without them, at the folder alone."""
    seconds: float = 0.02
    samples: list[Sample] = field(default_factory=list)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __enter__(self) -> Watch:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def variables(self) -> dict[str, str]:
        """What the job must find in its environment."""
        return {MARK: self.mark}

    def image(self) -> int:
        """The largest that the image's folder was."""
        return max(sample.image for sample in self.samples)

    def in_flight(self, stays: int) -> Sample:
        """The moment at which most was held that doesn't stay: memory of the ranks, and what the
        image had above the bytes that stay.
        """
        above = (Sample(max(0, each.image - stays), each.ranks) for each in self.samples)
        return max(above, key=lambda sample: sample.image + sample.ranks)

    def _look(self) -> None:
        known: dict[int, bool] = {}
        while not self._end.wait(self.seconds):
            held = 0
            if self.ranks:
                pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
                # A launcher's child becomes a rank by `exec`: only that answer is final.
                known = {pid: known.get(pid) or self._is_rank(pid) for pid in pids}
                held = sum(
                    beside_image(pid, self.node_dir) for pid, is_rank in known.items() if is_rank
                )
            self.samples.append(Sample(allocated(self.node_dir), held))

    def _is_rank(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"{MARK}={self.mark}".encode() in words and any(w.startswith(RANKS) for w in words)


def allocated(folder: Path) -> int:
    """Bytes of the blocks below a folder that may be changing; what has two names counts once."""
    return sum({inode: blocks for inode, blocks in _blocks(folder)}.values()) * 512


def _blocks(folder: Path) -> Iterator[tuple[int, int]]:
    try:
        if not folder.is_dir():
            facts = folder.lstat()
            yield facts.st_ino, facts.st_blocks
            return
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _blocks(Path(entry.path))
            facts = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        yield facts.st_ino, facts.st_blocks


def beside_image(pid: int, node_dir: Path) -> int:
    """Bytes of a process that are its own, or shared with other ranks outside the node's folder.

    Anonymous pages of every mapping (heap, stacks, ring, scratch, written pages of libraries), and
    its share (Pss) of shared mappings that don't lie below ``node_dir``: those of MPI. Pages of
    files, the bundle's in the page cache among them, are the system's to take back.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0
    total, counts = 0, False
    for line in lines:
        if line.startswith("Anonymous:") or (counts and line.startswith("Pss:")):
            total += int(line.split()[1])
        elif found := _MAPPING.match(line):
            counts = found[1] == "s" and not found[2].startswith(f"{node_dir}/")
    return total * 1024


def private(text: str) -> tuple[int, int]:
    """Bytes that a process has for itself, and those of them that no file is behind, from its
    ``smaps_rollup``."""
    values = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}
    own = values["Private_Dirty"] + values["Private_Clean"] + values["Swap"]
    return own * 1024, values["Anonymous"] * 1024
