"""What `make bench` prints beside plain Python: packing, start, instructions, operations, requests,
memory, what ranks do while they wait, and how fast a bundle gets to them.

Times alternate between the candidates, so that what else the machine does hits all of them; medians
and quartiles are of whole processes (interpreter start included), on a warm disk.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from measures import counts, memory, packing, times, transfer, waiting
from measures.subjects import packed
from support.environments import environment
from support.pythons import main_python

PARTS = (
    *("pack", "start", "lookups", "reading", "instructions", "interpreter", "count", "requests"),
    *("memory", "waiting", "large", "transfer"),
)


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11, help="repetitions of each time")
    parser.add_argument("--ranks", type=int, default=4, help="ranks of the counted run")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part, or these")
    options = parser.parse_args()
    parts = options.only or PARTS
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_memory()) as name:
        folder = Path(name)
        nodes = folder / "nodes"
        nodes.mkdir()
        if "pack" in parts:
            packing.packing(environment("w3", main_python()))
        if "start" in parts:
            times.starting(*packed("w3", folder), nodes, options.pairs)
        if "lookups" in parts:
            times.looking_up(*packed("w3", folder), nodes)
        if "reading" in parts:
            counts.reading(packed("w2", folder)[1])
        if "instructions" in parts:
            counts.executing(*packed("w3", folder), nodes)
        if "interpreter" in parts:
            times.interpreting(*packed("w2", folder), nodes, options.pairs)
        if "count" in parts:
            counts.counting(*packed("w2", folder), nodes, options.ranks)
        if "requests" in parts:
            counts.requesting(environment("w2", main_python()), folder)
        if "memory" in parts:
            memory.holding(*packed("w2", folder), folder, nodes)
        if "waiting" in parts:
            waiting.joining(*packed("w2", folder), nodes)
            waiting.sleeping(folder)
        if "large" in parts:
            memory.flying(nodes)
        if "transfer" in parts:
            w2, bundle = packed("w2", folder)
            transfer.crossing(w2)
            transfer.loading(w2, bundle, folder, nodes)
    return 0


def _memory() -> str | None:
    """A folder in memory, where there is one: the disk isn't what is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    raise SystemExit(main())
