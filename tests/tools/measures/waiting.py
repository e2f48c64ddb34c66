"""What ranks take of the processors while they wait for one another."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support import mpis, slow
from support.environments import Environment, environment
from support.process import run
from support.pythons import main_python

from .subjects import MB, heavy

# The first line of a program: what this process has taken of the processors until here.
FIRST_LINE = """
import os, time
rank = next((os.environ[name] for name in ("PMI_RANK", "PMIX_RANK") if name in os.environ), "0")
os.write(1, f"rank {rank} took {time.process_time()}\\n".encode())
"""

# Repetitions of a whole job; medians are shown.
TRIES = 3


def joining(w2: Environment, bundle: Path, nodes: Path) -> None:
    """CPU time of all ranks until the program runs, beside what MPI itself takes for that."""
    counts = (1, 2, 8, 32)
    print("\nCPU s of all ranks until mpi4py is imported  " + "".join(f"{n:>8}" for n in counts))
    ours = [w2.python, "-m", "pybundle", "run", "--bundle", bundle]
    ways = {"plain": [w2.python], "first start": ours, "image present": ours}
    code = f"from mpi4py import MPI\n{FIRST_LINE}"
    for name in mpis.WHEELS:
        mpi = mpis.find(name)
        env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
        found: dict[str, list[float]] = {}
        for way, words in ways.items():
            if way == "image present":
                run([*ours, "--keep", "-c", "pass"], env=env, timeout=120).check()
            launches = [[mpi.mpiexec, "-n", n, *words, "-c", code] for n in counts]
            jobs = [
                [taken(launch, n, env) for _ in range(TRIES)] for launch, n in zip(launches, counts)
            ]
            found[way] = [statistics.median(sum(job.cpu.values()) for job in same) for same in jobs]
            walls = [statistics.median(job.wall for job in same) for same in jobs]
            print(f"  {f'{name}: {way}':43}" + "".join(f"{cpu:8.2f}" for cpu in found[way]))
            print(f"  {'  wall s of the job':43}" + "".join(f"{s:8.2f}" for s in walls), flush=True)
        run([w2.pybundle, "clean"], env=env).check()
        for way in ("first start", "image present"):
            more = [(a - b) / n for a, b, n in zip(found[way], found["plain"], counts)]
            print(
                f"  {f'{name}: {way}, beyond plain, a rank':43}"
                + "".join(f"{s:8.3f}" for s in more)
            )
    print("  budget: decoding once, and beyond plain no more for a rank of 32 than for one of 2")


@dataclass(frozen=True)
class Taken:
    """A job, and the CPU seconds of each rank until its first line."""

    wall: float
    cpu: dict[int, float]

    @property
    def others(self) -> float:
        """The mean of all ranks but root."""
        return statistics.mean(seconds for rank, seconds in self.cpu.items() if rank)


def taken(words: Sequence[object], ranks: int, env: dict[str, str], **over: int) -> Taken:
    """Run a job that ends with :data:`FIRST_LINE`.

    ``over`` (``rate``, in MiB a second) shows the folder of its bundle slowly.
    """
    if over:
        bundle = Path(words[words.index("--bundle") + 1])
        result = slow.start(words, [bundle.parent], env=env, service=0, timeout=150, **over).result
    else:
        result = run(words, env=env, timeout=150)
    said = re.findall(r"rank (\d+) took ([\d.]+)", result.check().stdout)
    cpu = {int(rank): float(seconds) for rank, seconds in said}
    assert len(cpu) == ranks, f"{len(cpu)} of {ranks} ranks said what they took"
    return Taken(result.seconds, cpu)


def sleeping(folder: Path) -> None:
    """CPU time of ranks that wait while root reads slowly: what the same job takes more than with
    a fast file system. Little is decoded: the bundle holds incompressible data that nobody imports.

    Ranks of one node wait until root, their leader, has all. Where each has a folder of its own (a
    private mount) it is its node's leader and takes the broadcast: eight nodes on two cores.
    """
    heading = "ranks but root while root reads slowly"
    print(f"\n{heading}   waited s   CPU ms: fast    slow   more, a s   all, a s")
    try:
        slow.check()
    except slow.Unavailable as missing:
        print(f"  (not measured: {missing})")
        return
    python = environment("runner", main_python()).python
    size, fast, seconds = 100 * MB, 4096, 5
    with heavy(size, 20 * MB) as bundle:
        nodes = folder / "apart"
        nodes.mkdir()
        ours = [python, "-m", "pybundle", "run", "--bundle", bundle, "-c", FIRST_LINE]
        own = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', nodes]
        for name in mpis.WHEELS:
            mpi = mpis.find(name)
            env = mpi.environment(PYBUNDLE_NODE_DIR=str(nodes))
            for what, ranks, before in (
                ("2 ranks", 2, []),
                ("8 ranks", 8, []),
                ("32 ranks", 32, []),
                ("2 ranks, each a leader", 2, own),
                ("8 ranks, each a leader", 8, own),
            ):
                words = [mpi.mpiexec, "-n", ranks, *before, *ours]
                tries = [
                    [taken(words, ranks, env, rate=rate) for rate in (fast, size // seconds >> 20)]
                    for _ in range(TRIES)
                ]
                waited = statistics.median(late.wall - quick.wall for quick, late in tries)
                quick, late = (
                    statistics.median(job.others for job in jobs) * 1000 for jobs in zip(*tries)
                )
                more = (late - quick) / waited
                line = f"  {f'{name}: {what}':38} {waited:9.1f} {quick:13.0f} {late:7.0f}"
                print(f"{line} {more:11.1f} {more * (ranks - 1):10.0f}", flush=True)
    print(
        "  CPU of a rank until its first line, mean; more: for each second waited; all: of all such"
    )
    print("  ranks. budget: near zero (a rank that polls without a pause takes up to 1000)")
